"""Between broker and shards: one open batch per shard, so that a slow shard fills only its own lane."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from pipeline.ingest.delivery import Delivery
from pipeline.storage.rows import AnyRow, Trigger


class Item(msgspec.Struct, gc=False):
    """An event's row, with the delivery it came in, and its bytes there when that was a batch."""

    row: AnyRow
    delivery: Delivery
    member: bytes | None = None


class Batch(NamedTuple):
    """Events of one shard to be written together."""

    items: list[Item]
    trigger: Trigger
    epoch: int | None = None  # of the map by which they came here; None: of several


class Lane:
    """The events waiting for one shard. Mutable state: the queue, `_closing`, and the two events below.

    Bounded by the broker's prefetch: nothing is in here that the broker does not count as unacknowledged.
    """

    def __init__(self, *, batch_max: int, linger_s: float) -> None:
        self._items: deque[Item] = deque()
        self._batch_max = batch_max
        self._linger_s = linger_s
        self._closing = False
        self._some = asyncio.Event()  # at least one item, or closing
        self._full = asyncio.Event()  # at least a batch, or closing
        self._collecting = asyncio.Lock()  # one task at a time waits for a batch to fill

    def __repr__(self) -> str:
        return f"Lane({len(self._items)} waiting{', closing' if self._closing else ''})"

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closing(self) -> bool:
        """Whether nothing more will come."""
        return self._closing

    def add(self, item: Item) -> None:
        """Append an event. O(1)."""
        self._items.append(item)
        if len(self._items) == 1:
            self._some.set()
        if len(self._items) == self._batch_max:
            self._full.set()

    def head_received_at(self) -> float | None:
        """Return when the event at the head came in; None when there is none."""
        return self._items[0].delivery.received_at if self._items else None

    def take_overdue(self, before: float) -> list[Item]:
        """Take out what came in before a time of the monotonic clock and still waits."""
        items: list[Item] = []
        while self._items and self._items[0].delivery.received_at < before:
            items.append(self._items.popleft())
        self._mark()
        return items

    def take_foreign(self, name: str, shard_of: Callable[[int], str]) -> list[Item]:
        """Take out the events of slots that are not of the shard of this name."""
        foreign = [item for item in self._items if shard_of(item.row.slot) != name]
        if foreign:
            self._items = deque(item for item in self._items if shard_of(item.row.slot) == name)
            self._mark()
        return foreign

    def set_batch_max(self, batch_max: int) -> None:
        """Hand out batches of so many events at most from now on."""
        self._batch_max = batch_max
        if len(self._items) >= batch_max:
            self._full.set()
        self._mark()

    def close(self) -> None:
        """Hand out what is left without lingering, then end."""
        self._closing = True
        self._some.set()
        self._full.set()

    async def next_batch(self) -> Batch | None:
        """Return the next batch, or None when the lane is closed and empty.

        A first event waits up to the linger time for company: under load a batch fills long before that,
        and at rest a single event is late by no more than that.
        """
        async with self._collecting:
            while True:
                await self._some.wait()
                if not self._full.is_set():
                    try:
                        async with asyncio.timeout(self._linger_s):
                            await self._full.wait()
                    except TimeoutError:
                        pass  # the ordinary case at low load
                # Nothing may be left: while this lingered, what was overdue may have been taken out.
                if (batch := self._take()) is not None or self._closing:
                    return batch

    def _take(self) -> Batch | None:
        count = min(len(self._items), self._batch_max)
        items = [self._items.popleft() for _ in range(count)]
        self._mark()
        if not items:
            return None
        full = count == self._batch_max
        return Batch(items, Trigger.SIZE if full else Trigger.FLUSH if self._closing else Trigger.TIMEOUT)

    def _mark(self) -> None:
        """Bring both events in line with what is left."""
        if self._closing:
            return
        if not self._items:
            self._some.clear()
        if len(self._items) < self._batch_max:
            self._full.clear()


class Batcher:
    """A lane for each shard."""

    def __init__(self, shards: Iterable[str], *, batch_max: int, linger_s: float) -> None:
        self.batch_max = batch_max
        self._linger_s = linger_s
        self.closing = False
        self.lanes: dict[str, Lane] = {}
        for name in shards:
            self.add_lane(name)

    def add_lane(self, shard: str) -> Lane:
        """Make a lane for a shard that came."""
        lane = Lane(batch_max=self.batch_max, linger_s=self._linger_s)
        self.lanes[shard] = lane
        return lane

    def set_batch_max(self, batch_max: int) -> None:
        """Make batches of so many events at most from now on, in every lane that is or comes."""
        self.batch_max = batch_max
        for lane in self.lanes.values():
            lane.set_batch_max(batch_max)

    def resort(self, shard_of: Callable[[int], str]) -> int:
        """Put every waiting event into the lane of its slot's owner; return how many changed lanes."""
        foreign: list[Item] = []
        for name, lane in self.lanes.items():
            foreign += lane.take_foreign(name, shard_of)
        for item in foreign:
            self.lanes[shard_of(item.row.slot)].add(item)
        return len(foreign)

    def __repr__(self) -> str:
        return f"Batcher({', '.join(f'{name}: {len(lane)}' for name, lane in self.lanes.items())})"

    def __len__(self) -> int:
        return sum(len(lane) for lane in self.lanes.values())

    def close(self) -> None:
        """Close every lane."""
        self.closing = True
        for lane in self.lanes.values():
            lane.close()
