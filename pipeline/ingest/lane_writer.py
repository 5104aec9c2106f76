"""One shard's lane: its batches become rows, or go back to the broker when the shard is away."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum
from typing import NamedTuple

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import BrokerUnavailableError, PostorderError, SlotsMovedError, StorageRejectedError
from pipeline.events import Reason
from pipeline.ingest.batch_traces import BatchTraces
from pipeline.ingest.batcher import Batch, Item, Lane
from pipeline.ingest.detour import Detour
from pipeline.ingest.entries import quarantine_row
from pipeline.ingest.parking import Parking, make_parcel
from pipeline.ingest.pressure import Pressure
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.sharding.router import Router
from pipeline.storage.rows import BatchCounts, OwedTrace, QuarantineRow, Trigger
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_RETRY = Backoff(base_s=0.05, ceiling_s=0.5)
_PROBE = Backoff(base_s=0.2, ceiling_s=2.0)
_PARK_RETRY = Backoff(base_s=0.2, ceiling_s=2.0)


class Outcome(Enum):
    """What became of a batch, after every try in place."""

    DURABLE = "durable"
    REFUSED = "refused"  # PostgreSQL will never take this data
    FAILED = "failed"  # the shard works, and this batch fails all the same
    SHARD_AWAY = "shard_away"
    MOVED = "moved"  # the shard does not own some of the slots, or not now


class Attempt(NamedTuple):
    """An outcome, with the counts of a durable batch or the error of another."""

    outcome: Outcome
    counts: BatchCounts | None = None
    error: PostorderError | None = None
    slots: frozenset[int] = frozenset()  # those refused


class LaneWriter:
    """Writes one lane.

    Mutable state: `_away`, set while the shard cannot be written to; `done`, events settled or parked so far.

    `on_committed` is called with the shard's name after each commit, so that whoever sends need not poll.
    `router`, `refresh` and `route` are for events whose slots moved: see Detour. `traces`: None for none.
    """

    def __init__(
        self,
        shard: Shard,
        lane: Lane,
        *,
        parking: Parking,
        park_after_s: float,
        attempts_max: int,
        pressure: Pressure,
        metrics: Metrics,
        clock: Clock,
        on_committed: Callable[[str], None],
        router: Router,
        refresh: Callable[[], Awaitable[None]],
        route: Callable[[Iterable[Item]], None],
        tasks: Tasks,
        traces: BatchTraces | None = None,
    ) -> None:
        self.name = shard.name
        self._shard = shard
        self._lane = lane
        self._parking = parking
        self._park_after_s = park_after_s
        self._attempts_max = attempts_max
        self._pressure = pressure
        self._metrics = metrics
        self._clock = clock
        self._on_committed = on_committed
        self._tasks = tasks
        self._traces = traces
        self._away = False
        self.done = 0
        metrics.lane_events.places[self.name] = lane
        metrics.shard_away.labels(self.name).set_function(lambda: self._away)
        self._detour = Detour(
            shard.name,
            router=router,
            refresh=refresh,
            route=route,
            park=self._park_without_attempt,
            park_after_s=park_after_s,
            is_closing=lambda: lane.closing,
            clock=clock,
            tasks=tasks,
        )

    def __repr__(self) -> str:
        return f"LaneWriter({self.name}{', away' if self._away else ''}: {self._lane!r})"

    @property
    def waiting(self) -> int:
        """Events that wait for a batch."""
        return len(self._lane)

    async def run(self) -> None:
        """Write batches until the lane is closed and empty."""
        while (batch := await self._lane.next_batch()) is not None:
            # Lanes are sorted anew at once when the map changes, so all of a batch came by the map in force.
            await self._settle(batch._replace(epoch=self._detour.epoch))

    async def relieve(self, before: float, buffered: int) -> None:
        """Park what came in before a time, if this lane holds most of the events buffered for all shards."""
        received_at = self._lane.head_received_at()
        if received_at is None or received_at >= before or len(self._lane) * 2 <= buffered:
            return
        items = self._lane.take_overdue(before)
        log.warning("shard.slow", shard=self.name, parked=len(items))
        await self._park(items, attempt=False)

    async def _settle(self, batch: Batch, *, patience_s: float | None = None) -> None:
        patience_s = self._park_after_s if patience_s is None else patience_s
        items = self._detour.without_paused(batch.items)
        if not items:
            return
        batch = batch._replace(items=items)
        attempt = Attempt(Outcome.SHARD_AWAY) if self._away else await self._write(batch, patience_s)
        self._metrics.batches.labels(batch.trigger, attempt.outcome.value).inc()
        match attempt.outcome:
            case Outcome.DURABLE:
                self._acknowledge(batch, attempt.counts)
            case Outcome.REFUSED:
                await self._isolate(batch, attempt.error, self._quarantine_refused)
            case Outcome.FAILED:
                await self._isolate(batch, attempt.error, self._retry_later)
            case Outcome.SHARD_AWAY:
                await self._park(batch.items, attempt=False)
            case Outcome.MOVED:
                left = await self._detour.refused(batch.items, attempt.slots)
                await self._settle(Batch(left, Trigger.FLUSH), patience_s=patience_s)

    # --- trying ---------------------------------------------------------------------------------------

    async def _write(self, batch: Batch, patience_s: float) -> Attempt:
        traces = self._traces
        if traces is None or (traced := traces.begin(batch.items)) is None:
            return await self._try(batch, patience_s)
        attempt = await self._try(batch, patience_s, traced.owed)
        traces.end(traced, self.name, batch, attempt.outcome.value, attempt.counts)
        return attempt

    async def _try(self, batch: Batch, patience_s: float, traces: Sequence[OwedTrace] = ()) -> Attempt:
        """Write a batch, for a while repeatedly: a deadlock or a quick failover need not park anything."""
        items = batch.items
        rows = [item.row for item in items]

        def refused(place: int, reason: str, detail: str) -> QuarantineRow:
            return _quarantined(items[place], reason, detail)

        started = self._clock.monotonic()
        tries = 0
        while True:
            tries += 1
            try:
                counts = await self._shard.writer.write(rows, batch.trigger, refused, batch.epoch, traces)
            except SlotsMovedError as error:
                return Attempt(Outcome.MOVED, error=error, slots=error.slots)
            except StorageRejectedError as error:
                return Attempt(Outcome.REFUSED, error=error)
            except PostorderError as error:
                if not error.retryable:
                    raise
                self._metrics.write_failures.labels(self.name).inc()
                log.warning(
                    "batch.write_failed", shard=self.name, error=str(error), tries=tries, events=len(rows)
                )
                if self._away or self._clock.monotonic() - started >= patience_s:
                    return Attempt(await self._blame(), error=error)
                await self._clock.sleep(_RETRY.delay_s(tries))
            else:
                self._metrics.write_seconds.observe(self.name, self._clock.monotonic() - started)
                return Attempt(Outcome.DURABLE, counts=counts)

    async def _blame(self) -> Outcome:
        """Tell whether the shard is away or just this batch fails."""
        if self._away:
            return Outcome.SHARD_AWAY
        try:
            await self._shard.writer.probe()
        except PostorderError as error:
            if not self._away:
                self._away = True
                log.error("shard.away", shard=self.name, error=str(error))
                self._tasks.start(self._watch(), f"probe {self.name}")
            return Outcome.SHARD_AWAY
        return Outcome.FAILED

    async def _watch(self) -> None:
        """Probe the shard until it can be written to again."""
        tries = 0
        while self._away and not self._lane.closing:
            tries += 1
            await self._clock.sleep(_PROBE.delay_s(tries))
            try:
                await self._shard.writer.probe()
            except PostorderError as error:
                log.debug("shard.still_away", shard=self.name, error=str(error))
            else:
                self._away = False
                log.info("shard.back", shard=self.name)

    # --- settling -------------------------------------------------------------------------------------

    def _acknowledge(self, batch: Batch, counts: BatchCounts | None) -> None:
        metrics = self._metrics
        metrics.batch_events.observe(len(batch.items))
        for outcome, events in (counts._asdict() if counts else {}).items():
            if events:
                metrics.events.labels(outcome).inc(events)
        metrics.shard_events.add(self.name, count=len(batch.items))
        self._observe_latency(batch.items)
        self._release(batch.items)
        self._on_committed(self.name)

    def _observe_latency(self, items: Iterable[Item]) -> None:
        now = self._clock.now().timestamp()
        times = (getattr(item.row, "event_time", None) for item in items)
        self._metrics.publish_to_committed.observe_all(
            [max(0.0, now - time.timestamp()) for time in times if time is not None]
        )

    def _release(self, items: list[Item]) -> None:
        for item in items:
            item.delivery.event_settled()
        self._pressure.remove(len(items))
        self.done += len(items)

    async def _isolate(
        self, batch: Batch, error: PostorderError | None, single: Callable[[Item, str], Awaitable[None]]
    ) -> None:
        """Halve a batch that fails until the event at fault is alone, so that its neighbours are stored."""
        items = batch.items
        if len(items) == 1:
            await single(items[0], str(error))
            return
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            await self._settle(Batch(half, Trigger.FLUSH), patience_s=0.0)

    async def _quarantine_refused(self, item: Item, error: str) -> None:
        correlation = item.row.correlation
        log.error("event.refused_by_database", shard=self.name, correlation_id=correlation, error=error)
        await self._quarantine(item, Reason.REFUSED_BY_DATABASE, error)

    async def _retry_later(self, item: Item, error: str) -> None:
        attempts = item.delivery.attempts + 1
        if attempts < self._attempts_max:
            await self._park([item], attempt=True)
        else:
            await self._quarantine(item, Reason.RETRIES_EXHAUSTED, f"{attempts} attempts; the last: {error}")

    async def _quarantine(self, item: Item, reason: Reason, detail: str) -> None:
        if isinstance(item.row, QuarantineRow):
            # Not even the quarantine takes it: it goes round the ladder until somebody mends that.
            log.critical(
                "event.unquarantinable",
                shard=self.name,
                reason=item.row.reason,
                error=detail,
                **item.row.log_ids,
            )
            await self._park([item], attempt=True)
            return
        self._metrics.quarantined.labels(reason).inc()
        row = _quarantined(item, reason, detail)
        await self._settle(Batch([Item(row, item.delivery, item.member)], Trigger.FLUSH))

    async def _park_without_attempt(self, items: list[Item]) -> None:
        await self._park(items, attempt=False)

    async def _park(self, items: list[Item], *, attempt: bool) -> None:
        """Give events back to the broker for later, and acknowledge them when it has them."""
        by_delivery: dict[int, list[Item]] = {}
        for item in items:
            by_delivery.setdefault(id(item.delivery), []).append(item)
        parcels = [
            make_parcel(group[0].delivery, [item.member for item in group], attempt=attempt)
            for group in by_delivery.values()
        ]
        tries = 0
        while True:
            tries += 1
            try:
                await self._parking.park(parcels)
            except BrokerUnavailableError as error:
                # Still unacknowledged: if the consumers' connection is gone as well, they come again.
                log.warning("parking.failed", shard=self.name, error=str(error), messages=len(parcels))
                await self._clock.sleep(_PARK_RETRY.delay_s(tries))
            else:
                break
        self._metrics.parked.add(self.name, count=len(items))
        self._release(items)


def _quarantined(item: Item, reason: str, detail: str) -> QuarantineRow:
    row = item.row
    return quarantine_row(item.delivery, item.member, reason, detail, slot=row.slot, of_order=row.correlation)
