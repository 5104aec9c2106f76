"""How the contact book asks: in sets, once for all who want the same, and after slots that move."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from contact_shards import ADA, NOBODY, Shards, TurnedClock, book_over, claim

from pipeline.errors import RecipientRefusedError, StorageUnavailableError
from pipeline.notifications.contacts import ContactBook
from pipeline.sharding.slots import SLOT_COUNT, slot_of
from pipeline.storage.customers import Person
from pipeline.storage.outbox import Claim


@pytest.fixture
def shards() -> Shards:
    return Shards()


@pytest.fixture
async def book(shards: Shards) -> AsyncIterator[ContactBook]:
    async with book_over(shards, TurnedClock(), entries_max=100) as made:
        yield made


async def test_lookups_that_come_meanwhile_are_one_question(book: ContactBook, shards: Shards) -> None:
    shards.gate.clear()
    names = [f"c-{number % 20}" for number in range(100)]
    lookups = [asyncio.create_task(book.person(name)) for name in names]
    for _ in range(3):
        await asyncio.sleep(0)
    shards.gate.set()
    await asyncio.gather(*lookups)
    assert sum(len(names) for _, names in shards.asked) <= 21
    assert len(shards.asked) <= 2


def named(*numbers: int, **changes) -> list[Claim]:
    return [claim(customer_id=f"c-{number}", **changes) for number in numbers]


async def test_a_set_of_claims_is_one_question_however_the_workers_begin(
    book: ContactBook, shards: Shards
) -> None:
    """Each worker on its own asked for one or for a few: of sets of 90 came questions of 12."""
    book.expect(named(*range(90)))
    for one in named(*range(90)):
        await book.person(one.customer_id)
        await asyncio.sleep(0)
    assert [len(names) for _, names in shards.asked] == [90]
    assert book.hits == 89  # one came while it was being asked


async def test_what_is_expected_is_asked_for_once(book: ContactBook, shards: Shards) -> None:
    book.expect([*named(1, 1, 2), *named(3, is_expired=True), claim(customer_id=None)])
    book.expect(named(2))
    await book.person("c-1")
    book.expect(named(1, 2))
    assert await book.person("c-2") == NOBODY
    assert shards.asked == [("a", ["c-1", "c-2"])]


async def test_who_begins_while_the_set_is_asked_for_shares_its_answer(
    book: ContactBook, shards: Shards
) -> None:
    shards.persons["c-1"] = ADA
    shards.gate.clear()
    book.expect(named(1))
    await shards.was_asked.wait()
    asking = [asyncio.create_task(book.person("c-1")) for _ in range(3)]
    await asyncio.sleep(0)
    shards.gate.set()
    assert await asyncio.gather(*asking) == [ADA] * 3
    assert len(shards.asked) == 1


async def test_what_was_looked_up_before_a_change_is_asked_for_again(
    book: ContactBook, shards: Shards
) -> None:
    """A customer opts out between the claim and the message: the message does not go."""
    shards.persons["c-1"] = ADA
    book.expect(named(1))
    await book.person("c-1")
    shards.persons["c-1"] = Person(is_known=True, opted_out=("sms",))
    book.changed([slot_of("c-1")])
    with pytest.raises(RecipientRefusedError, match="wants nothing"):
        await book.complete(claim())


async def test_a_look_up_in_vain_costs_no_message(book: ContactBook, shards: Shards) -> None:
    shards.error = StorageUnavailableError("a: away")
    book.expect(named(1))
    with pytest.raises(StorageUnavailableError):
        await book.person("c-1")
    shards.error = None
    assert await book.person("c-1") == NOBODY


async def test_one_who_gives_up_takes_nothing_from_the_others(book: ContactBook, shards: Shards) -> None:
    shards.persons["c-1"] = ADA
    shards.gate.clear()
    first, second = (asyncio.create_task(book.person("c-1")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    shards.gate.set()
    assert await second == ADA


async def test_a_slot_that_moved_is_asked_for_at_its_new_owner(book: ContactBook, shards: Shards) -> None:
    shards.persons["c-1"] = ADA
    shards.owners = ["b"] * SLOT_COUNT
    assert await book.person("c-1") == ADA
    assert [shard for shard, _ in shards.asked] == ["a", "b"]


async def test_a_slot_that_is_nobodys_at_the_moment_is_asked_for_later(
    book: ContactBook, shards: Shards
) -> None:
    shards.owners = ["nobody"] * SLOT_COUNT

    async def stays() -> None:
        pass

    book._refresh = stays
    with pytest.raises(StorageUnavailableError, match="a: does not own the customer's slot at the moment"):
        await book.person("c-1")
