"""Status words are gathered into sets, follow their slots, and are said to be durable only when they are."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import BusyError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.callbacks.status_book import StatusBook
from pipeline.settings import Settings, ShardSettings
from pipeline.storage.cluster import Cluster
from pipeline.storage.effects import ProviderStatus

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def word(number: int, status: str = "sent", *, slot: int = 0) -> ProviderStatus:
    return ProviderStatus(slot, UUID(int=number), "twilio", f"SM{number}", status, None, NOW)


class Ledger:
    """Remembers sets; `failures` are raised in turn, `homeless` slots are nobody's once each."""

    def __init__(self) -> None:
        self.sets: list[tuple[str, list[ProviderStatus]]] = []
        self.failures: list[Exception] = []
        self.homeless: set[int] = set()
        self.go = asyncio.Event()
        self.go.set()
        self.asked = asyncio.Event()

    async def apply(self, shard: str, words: Sequence[ProviderStatus]) -> frozenset[int]:
        self.asked.set()
        await self.go.wait()
        if self.failures:
            raise self.failures.pop()
        self.sets.append((shard, list(words)))
        gone = frozenset(self.homeless & {one.slot for one in words})
        self.homeless -= gone
        return gone


class QuietCluster(Cluster):
    """A cluster whose map cannot be read anew, so that it stays."""

    refreshed = 0

    async def refresh(self) -> None:
        self.refreshed += 1


@asynccontextmanager
async def book_on(
    ledger: Ledger, *, waiting_max: int = 1000
) -> AsyncIterator[tuple[StatusBook, QuietCluster]]:
    shards = (ShardSettings(name="shard0", primary="postgresql://u@127.0.0.1:1/d"),)
    cluster, crashes = QuietCluster(Settings(shards=shards)), []
    book = StatusBook(
        cluster,
        ledger.apply,
        gather_s=0.002,
        waiting_max=waiting_max,
        clock=SystemClock(),
        tasks=Tasks(lambda _name, error: crashes.append(error)),
    )
    await book.start()
    try:
        yield book, cluster
    finally:
        await book.stop()
    assert crashes == []


async def test_words_that_come_together_go_as_one_set() -> None:
    ledger = Ledger()
    async with book_on(ledger) as (book, _):
        await asyncio.gather(*(book.apply(word(number)) for number in range(300)))
        assert [len(words) for _, words in ledger.sets] == [300]
        assert book.waiting == 0


async def test_ten_thousand_repetitions_are_one_word() -> None:
    ledger = Ledger()
    async with book_on(ledger, waiting_max=20_000) as (book, _):
        await asyncio.gather(*(book.apply(word(1)._replace(at=datetime.now(UTC))) for _ in range(10_000)))
        assert sum(len(words) for _, words in ledger.sets) == 1


async def test_a_set_has_at_most_five_hundred_words() -> None:
    ledger = Ledger()
    async with book_on(ledger, waiting_max=2000) as (book, _):
        await asyncio.gather(*(book.apply(word(number)) for number in range(1200)))
        assert [len(words) for _, words in ledger.sets] == [500, 500, 200]


async def test_a_failure_is_told_to_all_who_wait_and_only_to_them() -> None:
    ledger = Ledger()
    ledger.failures = [StorageUnavailableError("shard0 is away")]
    async with book_on(ledger) as (book, _):
        answers = await asyncio.gather(*(book.apply(word(n)) for n in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StorageUnavailableError] * 3
        assert ledger.sets == []
        await book.apply(word(4))
        assert [len(words) for _, words in ledger.sets] == [1]


async def test_more_than_may_wait_are_turned_away() -> None:
    ledger = Ledger()
    ledger.go.clear()
    async with book_on(ledger, waiting_max=5) as (book, _):
        waiting = [asyncio.ensure_future(book.apply(word(number))) for number in range(5)]
        await ledger.asked.wait()
        with pytest.raises(BusyError):
            await book.apply(word(6))
        ledger.go.set()
        await asyncio.gather(*waiting)
        await book.apply(word(6))


async def test_a_word_follows_its_slot_and_the_others_do_not_wait_for_it() -> None:
    ledger = Ledger()
    ledger.homeless = {7}
    async with book_on(ledger) as (book, cluster):
        moving = asyncio.ensure_future(book.apply(word(1, slot=7)))
        await book.apply(word(2, slot=8))
        assert not moving.done()
        await moving
        assert cluster.refreshed == 1
        assert [{one.slot for one in words} for _, words in ledger.sets] == [{7, 8}, {7}]


async def test_who_gives_up_is_not_waited_for() -> None:
    ledger = Ledger()
    ledger.go.clear()
    async with book_on(ledger) as (book, _):
        first = asyncio.ensure_future(book.apply(word(1)))
        await ledger.asked.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await book.apply(word(2))
        ledger.go.set()
        await first
        await book.apply(word(3))
        assert [one.effect_id.int for _, words in ledger.sets for one in words] == [1, 3]
        assert book.waiting == 0


async def test_at_the_end_nobody_is_told_that_it_is_durable() -> None:
    ledger = Ledger()
    async with book_on(ledger) as (book, _):
        book._gather_s = 60.0
        waiting = asyncio.ensure_future(book.apply(word(1)))
        await asyncio.sleep(0)
        await book.stop()
        with pytest.raises(BusyError):
            await waiting
