"""Receipts on their way: who sends does not wait for them, none is lost, and how many are open is known."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs
from virtual_clock import VirtualClock

from pipeline.errors import SlotsMovedError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.receipts import ReceiptBook
from pipeline.observability.metrics import Metrics
from pipeline.storage.outbox import Channel, Receipt, Recorded, State


class Shard:
    """Records receipts of the slots it owns, unless it is away."""

    def __init__(self, name: str, *owned: int) -> None:
        self.name = name
        self.outbox = self
        self.owned = set(owned)
        self.is_away = False
        self.slots: list[int] = []

    async def record(self, _channel: Channel, receipts: Sequence[Receipt]) -> Recorded:
        if self.is_away:
            raise StorageUnavailableError(f"{self.name}: gone")
        if moved := frozenset(receipt.slot for receipt in receipts) - self.owned:
            raise SlotsMovedError(self.name, moved, 2)
        self.slots += [receipt.slot for receipt in receipts]
        return Recorded(Counter(receipt.state for receipt in receipts), 0)


class Cluster(dict[str, Shard]):
    """Shards, and a map of slots that is as old as the last refresh."""

    def __init__(self, *shards: Shard) -> None:
        super().__init__({shard.name: shard for shard in shards})
        self.on_added: list[Any] = []
        self.router = SimpleNamespace(shard_of=lambda slot: self._known[slot])
        self._known: dict[int, str] = {}
        self._learn()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())

    async def refresh(self) -> None:
        self._learn()

    def _learn(self) -> None:
        self._known = {slot: shard.name for shard in self.values() for slot in shard.owned}


class Desk:
    """A book over some shards. `durable`: the slots of the receipts of which it said so."""

    def __init__(self, *shards: Shard) -> None:
        self.clock = VirtualClock()
        self.durable: list[int] = []
        self.metrics = Metrics()
        cluster: Any = Cluster(*shards)
        self.book = ReceiptBook(
            Channel.SMS,
            cluster,
            gather_s=0.005,
            metrics=self.metrics,
            clock=self.clock,
            tasks=Tasks(lambda name, error: pytest.fail(f"{name}: {error}")),
        )
        self.book.start()

    def put(self, *slots: int) -> None:
        for slot in slots:
            receipt = Receipt(slot, UUID(int=slot), UUID(int=9), State.ACCEPTED)
            self.book.put(receipt, partial(self.durable.append, slot))

    def shown(self) -> float | None:
        return self.metrics.registry.get_sample_value("postorder_open_receipts", {"channel": "sms"})


async def test_receipts_of_a_slot_that_moved_go_after_it_and_stay_open_on_the_way() -> None:
    here, there = Shard("a", 0, 1, 2), Shard("b")
    desk = Desk(here, there)
    here.owned, there.owned = {1, 2}, {0}
    desk.put(0, 1, 2)
    few = asyncio.create_task(desk.book.until_few("a", 0))
    drained = asyncio.create_task(desk.book.drain())
    await desk.clock.pass_by(0.01)
    assert (sorted(desk.durable), desk.book.open, desk.shown()) == ([1, 2], 1, 1.0)
    assert (few.done(), drained.done()) == (True, False)
    await desk.clock.pass_by(0.1)
    assert (desk.durable[-1], desk.book.open, desk.shown()) == (0, 0, 0.0)
    assert (here.slots, there.slots) == ([1, 2], [0])
    assert drained.done()
    await desk.book.stop()


async def test_a_shard_that_is_away_keeps_its_own_receipts_open_only() -> None:
    gone, there = Shard("a", 0), Shard("b", 1)
    gone.is_away = True
    desk = Desk(gone, there)
    desk.put(*[0] * 600, *[1] * 600)
    await desk.clock.pass_by(2.0)
    assert desk.durable == [1] * 600
    await asyncio.wait_for(desk.book.until_few("b", 0), 1)
    few = asyncio.create_task(desk.book.until_few("a", 599))
    await desk.clock.pass_by(2.0)
    assert not few.done()
    gone.is_away = False
    await desk.clock.pass_by(10.0)
    assert few.done()
    assert (gone.slots, desk.book.open) == ([0] * 600, 0)
    await desk.book.stop()


async def test_an_end_says_how_many_were_left() -> None:
    gone = Shard("a", 0)
    gone.is_away = True
    desk = Desk(gone)
    desk.put(0, 0, 0)
    await desk.clock.pass_by(1.0)
    with capture_logs() as logs:
        await desk.book.stop()
    assert [entry["receipts"] for entry in logs if entry["event"] == "receipts.left"] == [3]
