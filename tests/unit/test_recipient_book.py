"""Recipients are asked for in sets, get what room there is, and are followed when their slots move."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from recipient_shards import QuickClock, Shards

from pipeline.errors import HeldBackError, ProviderError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.recipient_book import Passed, RecipientBook
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import Asked, RecipientKey, recipient_key

ADA, BOB = (recipient_key(Channel.SMS, number) for number in ("+14155550123", "+14155550124"))


@pytest.fixture
def shards() -> Shards:
    return Shards()


@pytest.fixture
async def make_book(shards: Shards) -> AsyncIterator:
    crashes: list[BaseException] = []
    books = []

    def make(cap: int = 0) -> RecipientBook:
        router = Router(ShardMap(1, ("a",) * SLOT_COUNT))

        async def refresh() -> None:
            router.adopt(ShardMap(router.epoch + 1, (shards.owner or "a",) * SLOT_COUNT))

        tasks = Tasks(lambda _name, error: crashes.append(error))
        books.append(
            RecipientBook(
                cap=cap,
                router=router,
                shard=shards.shard,
                refresh=refresh,
                clock=QuickClock(),
                tasks=tasks,
            )
        )
        return books[-1]

    yield make
    for book in books:
        await book.stop()
    assert crashes == []


async def code_of(book: RecipientBook, recipient: RecipientKey) -> str | None:
    try:
        await book.admit(recipient)
    except ProviderError as error:
        return error.code
    return None


def test_a_key_is_the_same_for_ever() -> None:  # rows are stored under it
    assert ADA.key.hex == "31ecd9c30d8a7bd506483cfbde41b5ee"
    assert 0 <= ADA.slot < SLOT_COUNT
    assert recipient_key(Channel.EMAIL, "Ada@Example.COM") == recipient_key(Channel.EMAIL, "ada@example.com")
    assert recipient_key(Channel.EMAIL, "ada@example.com").key.hex == "9b62a3a2bce7c868f30d60f0818e84d2"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("stop", "opted_out"),
        ("unsubscribe", "opted_out"),
        ("provider:21610", "opted_out"),
        ("bounce:5.1.1", "bounced"),
        ("operator", "blocked"),
    ],
)
async def test_who_wants_nothing_gets_nothing_at_once(make_book, shards: Shards, reason, code) -> None:
    book = make_book()
    assert await code_of(book, ADA) is None
    shards.out[ADA] = reason
    assert await code_of(book, ADA) == code
    assert await code_of(book, BOB) is None
    del shards.out[ADA]
    assert await code_of(book, ADA) is None


async def test_lookups_that_come_meanwhile_go_in_one_statement(make_book, shards: Shards) -> None:
    book = make_book()
    shards.gate.clear()
    first = asyncio.create_task(book.admit(ADA))
    await shards.was_asked.wait()
    others = [asyncio.create_task(book.admit(recipient)) for recipient in (ADA, BOB, ADA, BOB, BOB)]
    await asyncio.sleep(0)
    shards.gate.set()
    await asyncio.gather(first, *others)
    assert shards.asked == [("a", [Asked(ADA, 1)]), ("a", [Asked(ADA, 2), Asked(BOB, 3)])]
    assert repr(book) == "RecipientBook(6 asked in 2 statements)"


async def test_several_messages_at_once_get_what_room_there_is(make_book, shards: Shards) -> None:
    book = make_book(cap=3)
    codes = await asyncio.gather(*(code_of(book, ADA) for _ in range(5)))
    assert sorted(code or "" for code in codes) == ["", "", "", "daily_cap", "daily_cap"]
    assert shards.counts[ADA] == 3
    with pytest.raises(HeldBackError) as caught:
        await book.admit(ADA)
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 86_400


async def test_what_was_not_sent_counts_no_more(make_book, shards: Shards) -> None:
    book = make_book(cap=1)
    for _ in range(3):
        passed = await book.admit(ADA)
        assert shards.counts[ADA] == 1
        shards.taken_back.clear()
        book.take_back(passed)
        await shards.taken_back.wait()
    assert shards.counts[ADA] == 0
    book.take_back(await book.admit(ADA))
    await book.drain()  # waits until it was taken back
    assert shards.counts[ADA] == 0


async def test_without_a_cap_nothing_is_taken_back(make_book, shards: Shards) -> None:
    book = make_book()
    book.take_back(await book.admit(ADA))
    assert not book._returned


async def test_a_count_that_cannot_be_taken_back_stays(make_book, shards: Shards) -> None:
    book = make_book(cap=1)
    passed = await book.admit(ADA)
    shards.error = StorageUnavailableError("a: away")
    book.take_back(passed)
    await book._tasks.join()
    assert shards.counts[ADA] == 1
    assert not book._returned


async def test_while_a_shard_is_away_its_recipients_wait(make_book, shards: Shards) -> None:
    book = make_book()
    shards.error = StorageUnavailableError("a: away")
    assert await code_of(book, ADA) == "recipients_unavailable"
    shards.error = None
    book._clock.time_s += 1.0
    assert await code_of(book, ADA) is None


async def test_a_shard_that_is_away_is_tried_by_one_message_a_second(make_book, shards: Shards) -> None:
    """The others, of whatever shard they are, hold no worker until its time-out ends."""
    book = make_book()
    shards.gate.clear()
    first = asyncio.create_task(code_of(book, ADA))
    await shards.was_asked.wait()
    meanwhile = [asyncio.create_task(code_of(book, one)) for one in (ADA, BOB)]
    await asyncio.sleep(0)
    shards.error = StorageUnavailableError("a: away")
    shards.gate.set()
    codes = await asyncio.gather(first, *meanwhile)
    assert codes == ["recipients_unavailable"] * 3
    with pytest.raises(HeldBackError) as caught:
        await book.admit(BOB)
    assert caught.value.retry_after_s == 1.0
    assert len(shards.asked) == 1
    book._clock.time_s += 1.0
    shards.gate.clear()
    trying = asyncio.create_task(code_of(book, ADA))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await code_of(book, BOB) == "recipients_unavailable"  # while that one waits
    shards.gate.set()
    assert [await trying, await code_of(book, BOB)] == ["recipients_unavailable"] * 2
    assert len(shards.asked) == 2
    shards.error = None
    book._clock.time_s += 1.0
    assert [await code_of(book, one) for one in (ADA, BOB, BOB)] == [None] * 3


async def test_a_slot_that_moved_is_followed(make_book, shards: Shards) -> None:
    book = make_book()
    shards.owner = "b"
    shards.out[ADA] = "stop"
    assert await code_of(book, ADA) == "opted_out"
    assert [name for name, _ in shards.asked] == ["a", "b"]


async def test_a_slot_that_is_nobodys_for_long_is_given_up(make_book, shards: Shards) -> None:
    book = make_book()
    shards.owner = ""
    assert await code_of(book, ADA) == "recipients_unavailable"
    assert 10 < len(shards.asked) < 100


async def test_who_is_cancelled_leaves_the_others_their_answer(make_book, shards: Shards) -> None:
    book = make_book(cap=5)
    shards.gate.clear()
    waiting = [asyncio.create_task(book.admit(ADA)) for _ in range(3)]
    await shards.was_asked.wait()
    waiting[0].cancel()
    await asyncio.sleep(0)
    shards.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [answer.recipient for answer in answers[1:]] == [ADA, ADA]


@pytest.mark.parametrize("when", ["before the answer", "with the answer in hand"])
async def test_room_of_one_who_is_cancelled_is_given_back(make_book, shards: Shards, when: str) -> None:
    """Else a recipient could be sent less for the rest of the day, by each claim that was given up."""
    book = make_book(cap=3)
    answer = book._answer

    async def answer_and_cancel(shard: str, questions: Any) -> None:
        await answer(shard, questions)
        waiting[0].cancel()

    if when == "with the answer in hand":
        book._answer = answer_and_cancel
    shards.gate.clear()
    waiting = [asyncio.create_task(book.admit(ADA)) for _ in range(3)]
    await shards.was_asked.wait()
    assert shards.asked == [("a", [Asked(ADA, 3)])]
    if when == "before the answer":
        waiting[0].cancel()
    shards.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError, Passed, Passed]
    await book.drain()
    assert shards.counts[ADA] == 2
    assert await code_of(book, ADA) is None


async def test_of_a_stream_of_one_every_half_millisecond_ten_go_together(make_book) -> None:
    book = make_book()
    clock = book._clock
    await book.admit(ADA)
    assert clock.time_s == 0.0  # one that comes alone goes at once
    pace = asyncio.Event()

    async def sleep(delay_s: float) -> None:
        until = clock.time_s + delay_s
        while clock.time_s < until:
            pace.clear()
            await pace.wait()

    clock.sleep, clock.time_s = sleep, 1.0
    tasks = []
    for recipient in (recipient_key(Channel.SMS, f"+1415555{number:04}") for number in range(100)):
        tasks.append(asyncio.create_task(book.admit(recipient)))
        for _ in range(5):
            await asyncio.sleep(0)
        clock.time_s += 0.0005
        pace.set()
    clock.time_s += 1.0
    pace.set()
    await asyncio.gather(*tasks)
    assert 9 <= book.statements - 1 <= 12
