"""Flow one: deliveries in, batches committed, deliveries acknowledged."""

from collections.abc import Callable
from datetime import datetime
from itertools import count

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import EventError, PostorderError, StorageRejectedError
from pipeline.events import Reason
from pipeline.ingest.batcher import Batch, Batcher, Item, Lane, Trigger
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.entries import EntryBuilder
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.storage.cluster import Cluster
from pipeline.storage.rows import BatchCounts, Entry, QuarantineRow
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_RETRY = Backoff(base_s=0.1, ceiling_s=5.0)


class Processor:
    """Decodes deliveries, batches them by shard, and writes the batches until they are durable.

    `on_committed` is called with a shard's name after each commit, so that whoever sends need not poll.
    """

    name = "intake"

    def __init__(
        self,
        *,
        decoder: Decoder,
        entries: EntryBuilder,
        batcher: Batcher,
        cluster: Cluster,
        batches_in_flight: int,
        metrics: Metrics,
        clock: Clock,
        on_committed: Callable[[str], None],
        tasks: Tasks,
    ) -> None:
        self._decoder = decoder
        self._entries = entries
        self._batcher = batcher
        self._cluster = cluster
        self._batches_in_flight = batches_in_flight
        self._metrics = metrics
        self._clock = clock
        self._on_committed = on_committed
        self._tasks = tasks

    def accept(self, delivery: Delivery) -> None:
        """Take a delivery: decode, place, append to its shard's lane. Never blocks, never raises."""
        try:
            event = self._decoder.decode(delivery)
            shard, entry = self._entries.of_event(event, delivery)
        except EventError as error:
            shard, entry = self._entries.of_bad_delivery(delivery, error)
            log.warning("event.quarantined", reason=error.reason, detail=error.detail, queue=delivery.queue)
        except Exception as error:
            # A defect of ours must not leave a delivery unsettled: it would hold a place for ever.
            log.exception("event.defect", queue=delivery.queue)
            found = EventError(Reason.DEFECT, f"{type(error).__name__} while decoding: see the log")
            shard, entry = self._entries.of_bad_delivery(delivery, found)
        self._batcher.add(shard, Item(entry, delivery))

    async def start(self) -> None:
        """Start the writing tasks of every shard."""
        self._metrics.buffered.set_function(lambda: len(self._batcher))
        for name, lane in self._batcher.lanes.items():
            for _ in range(self._batches_in_flight):
                self._tasks.start(self._write_lane(self._cluster[name], lane), f"write {name}")

    async def drain(self) -> None:
        """Write what is in the lanes. Call after the consumers stopped delivering."""
        self._batcher.close()
        await self._tasks.join()

    async def stop(self) -> None:
        """End at once. What is not written was not acknowledged, so the broker delivers it again."""
        await self._tasks.cancel()
        if len(self._batcher):
            log.warning("intake.left_unwritten", events=len(self._batcher))

    async def _write_lane(self, shard: Shard, lane: Lane) -> None:
        while (batch := await lane.next_batch()) is not None:
            await self._settle(shard, batch)

    async def _settle(self, shard: Shard, batch: Batch) -> None:
        """Write a batch until it is durable, then acknowledge its deliveries."""
        try:
            counts = await self._write_until_durable(shard, batch)
        except StorageRejectedError as error:
            await self._isolate(shard, batch, error)
            return
        self._count(batch, counts)
        for item in batch.items:
            item.delivery.event_durable()
        self._on_committed(shard.name)

    async def _write_until_durable(self, shard: Shard, batch: Batch) -> BatchCounts:
        entries = [item.entry for item in batch.items]
        for attempt in count(1):
            started = self._clock.monotonic()
            try:
                counts = await shard.writer.write(entries, batch.trigger)
            except PostorderError as error:
                if not error.retryable:
                    raise
                delay_s = _RETRY.delay_s(attempt)
                self._metrics.write_failures.labels(shard.name).inc()
                log.warning(
                    "batch.write_failed",
                    shard=shard.name,
                    error=str(error),
                    attempt=attempt,
                    events=len(entries),
                    retry_in_s=round(delay_s, 2),
                )
                await self._clock.sleep(delay_s)
            else:
                self._metrics.write_seconds.labels(shard.name).observe(self._clock.monotonic() - started)
                return counts
        raise AssertionError("unreachable: the loop above is endless")

    async def _isolate(self, shard: Shard, batch: Batch, error: StorageRejectedError) -> None:
        """Find the row PostgreSQL refuses by halving the batch; quarantine it, write the others."""
        items = batch.items
        if len(items) > 1:
            middle = len(items) // 2
            await self._settle(shard, Batch(items[:middle], Trigger.FLUSH))
            await self._settle(shard, Batch(items[middle:], Trigger.FLUSH))
            return
        (entry, delivery) = items[0]
        log.error("event.refused_by_database", shard=shard.name, error=str(error))
        if isinstance(entry.row, QuarantineRow):
            # Not even the quarantine takes it. Unacknowledged, it stays with the broker.
            log.critical(
                "event.left_with_broker", queue=delivery.queue, quarantine_id=entry.row.quarantine_id
            )
            return
        row = entry.as_quarantined(Reason.REFUSED_BY_DATABASE, str(error))
        await self._settle(shard, Batch([Item(Entry(row, entry.as_quarantined), delivery)], Trigger.FLUSH))

    def _count(self, batch: Batch, counts: BatchCounts) -> None:
        metrics = self._metrics
        for outcome, events in counts._asdict().items():
            if events:
                metrics.events.labels(outcome).inc(events)
        metrics.batches.labels(batch.trigger).inc()
        metrics.batch_events.observe(len(batch.items))
        now = self._clock.now()
        for item in batch.items:
            event_time: datetime | None = getattr(item.entry.row, "event_time", None)
            if event_time is not None:
                latency_s = max(0.0, (now - event_time).total_seconds())
                metrics.publish_to_committed_seconds.observe(latency_s)
