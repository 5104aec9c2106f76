"""Flow one: deliveries in, batches committed or parked, deliveries acknowledged."""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from pipeline.clock import Clock
from pipeline.errors import EventError
from pipeline.events import Reason
from pipeline.ingest.batcher import Batcher, Item, Lane
from pipeline.ingest.content_mode import ContentMode
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.entries import EntryBuilder
from pipeline.ingest.lane_writer import LaneWriter
from pipeline.ingest.pressure import Pressure
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.sharding.router import Router
from pipeline.storage.rows import CustomerRow, InvoiceRow, OrderRow, QuarantineRow

log = structlog.get_logger(__name__)

_RELIEF_INTERVAL_S = 0.25
_TYPES = {
    OrderRow: ("order",),
    InvoiceRow: ("invoice",),
    CustomerRow: ("customer",),
    QuarantineRow: ("quarantine",),
}


class Processor:
    """Decodes deliveries, batches them by shard, and has each lane written until it is durable."""

    name = "intake"

    def __init__(
        self,
        *,
        decoder: Decoder,
        entries: EntryBuilder,
        batcher: Batcher,
        make_writer: Callable[[str, Lane], LaneWriter],
        router: Router,
        batches_in_flight: int,
        park_after_s: float,
        pressure: Pressure,
        metrics: Metrics,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._decoder = decoder
        self._entries = entries
        self._batcher = batcher
        self._lanes = batcher.lanes
        self._make_writer = make_writer
        self._router = router
        self.writers = [make_writer(name, lane) for name, lane in batcher.lanes.items()]
        self._batches_in_flight = batches_in_flight
        self._park_after_s = park_after_s
        self._pressure = pressure
        self._metrics = metrics
        self._received = metrics.received.counts
        self._clock = clock
        self._tasks = tasks
        self._relief: asyncio.Task[None] | None = None

    @property
    def batcher(self) -> Batcher:
        """The lanes, and how large batches may be."""
        return self._batcher

    def accept(self, delivery: Delivery) -> None:
        """Take a delivery: decode, place, append to its shards' lanes. Never blocks, never raises."""
        try:
            mode = self._decoder.mode(delivery)
            if mode is ContentMode.BATCH:
                members = self._decoder.members(delivery)
                delivery.expect(len(members))
                for member in members:
                    self._accept_member(delivery, member)
                return
            shard, row = self._entries.of_event(self._decoder.decode(delivery, mode))
        except EventError as error:
            self._refuse(error, delivery)
        except Exception as error:  # noqa: BLE001  # as in _defect
            self._refuse(_defect(error, delivery), delivery)
        else:
            self._add(shard, Item(row, delivery))

    def _accept_member(self, delivery: Delivery, member: bytes) -> None:
        try:
            shard, row = self._entries.of_event(self._decoder.decode_structured(member))
        except EventError as error:
            self._refuse(error, delivery, member)
        except Exception as error:  # noqa: BLE001  # as in _defect
            self._refuse(_defect(error, delivery), delivery, member)
        else:
            self._add(shard, Item(row, delivery, member))

    def _refuse(self, error: EventError, delivery: Delivery, member: bytes | None = None) -> None:
        """Send to quarantine. Everything it calls copes with whatever a delivery holds."""
        self._metrics.quarantined.labels(error.reason).inc()
        shard, row = self._entries.of_bad_event(error, delivery, member)
        log.warning(
            "event.quarantined",
            reason=error.reason,
            detail=error.detail,
            queue=delivery.queue,
            **row.log_ids,
        )
        self._add(shard, Item(row, delivery, member))

    def _add(self, shard: str, item: Item) -> None:
        self._lanes[shard].add(item)
        self._pressure.add(1)
        self._received[_TYPES[item.row.__class__]] += 1

    def waiting(self) -> dict[str, int]:
        """Return how many events wait in memory, by shard."""
        return {name: len(lane) for name, lane in self._lanes.items()}

    async def start(self) -> None:
        """Start the writing tasks of every shard."""
        self._metrics.buffered.set_function(lambda: self._pressure.held)
        self._metrics.buffer_max.set_function(lambda: self._pressure.high)
        self._metrics.paused.set_function(lambda: self._pressure.paused)
        self._metrics.looks.append(self._show_work)
        for writer in self.writers:
            self._start_writing(writer)
        self._relief = self._tasks.start(self._relieve(), "relieve lanes")

    def add_shard(self, name: str) -> None:
        """Write to one more shard from now on."""
        if self._batcher.closing:
            return  # what the map gives it meanwhile is parked
        writer = self._make_writer(name, self._batcher.add_lane(name))
        self.writers.append(writer)
        self._start_writing(writer)

    def _start_writing(self, writer: LaneWriter) -> None:
        for _ in range(self._batches_in_flight):
            self._tasks.start(writer.run(), f"write {writer.name}")

    def resort(self) -> None:
        """Put what waits into the lanes that the map says now."""
        if not self._batcher.closing and (moved := self._batcher.resort(self._router.shard_of)):
            log.info("events.resorted", events=moved, epoch=self._router.epoch)

    def route(self, items: Iterable[Item]) -> None:
        """Put events that a shard refused into the lanes of their slots' owners."""
        for item in items:
            self._lanes[self._router.shard_of(item.row.slot)].add(item)

    async def drain(self) -> None:
        """Write or park what is in the lanes. Call after the consumers stopped delivering."""
        if self._relief is not None:
            self._relief.cancel()
        self._batcher.close()
        await self._tasks.join()

    async def stop(self) -> None:
        """End at once. What is not written was not acknowledged, so the broker delivers it again."""
        await self._tasks.cancel()
        if self._pressure.held:
            log.warning("intake.left_unwritten", events=self._pressure.held)

    async def _relieve(self) -> None:
        """Park what waits too long for a slow shard while it holds most of the window.

        Otherwise such a shard would, one by one, take every place that the prefetch allows.
        """
        while True:
            await self._clock.sleep(_RELIEF_INTERVAL_S)
            self._show_oldest()
            for writer in self.writers:
                await writer.relieve(self._clock.monotonic() - self._park_after_s, len(self._batcher))

    def _show_oldest(self) -> None:
        heads = [lane.head_received_at() for lane in self._lanes.values()]
        oldest = min((head for head in heads if head is not None), default=None)
        waited_s = 0.0 if oldest is None else self._clock.monotonic() - oldest
        self._metrics.oldest_event_seconds.set(max(0.0, waited_s))

    def _show_work(self) -> None:
        work, now = self._metrics.work, self._clock.monotonic()
        for writer in self.writers:
            work.stage("shards", writer.name).look(now, writer.waiting, writer.done)
        work.show("shards")


def _defect(error: Exception, delivery: Delivery) -> EventError:
    """Say that a delivery met a defect of ours. Unsettled, it would hold a place of the window for ever."""
    log.error("event.defect", queue=delivery.queue, exc_info=error)
    return EventError(Reason.DEFECT, f"{type(error).__name__} while decoding: see the log")
