"""What intake costs: events through broker and shards, with the CPU that each part spends on them."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import aiohttp
import msgspec

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from consumers.migration import apply_to_broker, migrate_all
from consumers.topology import DIRECT_EXCHANGE
from loadtest.cpu_account import CpuAccount, rss_mb
from loadtest.event_source import batch_bodies, bodies, now_text, order_body
from loadtest.metrics_page import MetricsPage, percentile_of_buckets, since_then
from loadtest.peer import running_peer
from loadtest.pipeline_process import PipelineProcess
from pipeline.errors import PostorderError
from pipeline.ingest.content_mode import BATCH_TYPE, STRUCTURED_TYPE
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from stack.ports import HOST, choose_port
from stack.status import StackStatus

FOLDER = Path("var/bench")
BATCH = 50
_ROUTE = route_of(DIRECT_EXCHANGE, "order.processed", mandatory=True)
_STALL_TIMEOUT_S = 60.0
_CONFIRM_TIMEOUT_S = 60.0
_POLL_S = 0.1
_PEER_POLL_S = 0.5
_PEER_TIMEOUT_S = 120.0


class BenchError(PostorderError):
    """The benchmark cannot go on."""


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds of CPU per event. `total` is without the publisher, which a real system has elsewhere."""

    broker: float
    primaries: float
    replicas: float
    consumers: float
    total: float
    publisher: float


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario. `batches` counts transactions by what closed the batch."""

    events: int
    seconds: float
    events_per_s: float
    cpu_us: Cpu
    consumer_rss_mb: float
    events_per_batch: float
    batches: dict[str, int]


class OpenLoop(msgspec.Struct, frozen=True, kw_only=True):
    """Latency from publish to committed at a fixed rate, whether or not earlier events are answered."""

    rate: float
    events: int
    p50_ms: float
    p99_ms: float


def _flow(
    events: int,
    seconds: float,
    before: dict[str, float],
    after: dict[str, float],
    *,
    rss: float,
    triggers: dict[str, int],
) -> Flow:
    cost = {
        name: round((after[name] - seconds_before) / events * 1e6, 1)
        for name, seconds_before in before.items()
    }
    return Flow(
        events=events,
        seconds=round(seconds, 2),
        events_per_s=round(events / seconds),
        cpu_us=Cpu(**cost, total=round(sum(cost.values()) - cost["publisher"], 1)),
        consumer_rss_mb=round(rss),
        events_per_batch=round(events / max(1, sum(triggers.values())), 1) if triggers else 1.0,
        batches=triggers,
    )


class _Start(NamedTuple):
    """The readings at a scenario's start."""

    at: float
    cpu_s: dict[str, float]
    triggers: dict[str, tuple[int, int]]


class IntakeBench:
    """The scenarios, on a running stack. One consumer process, started anew for each."""

    def __init__(self, stack: StackStatus, settings: Settings, settings_file: Path) -> None:
        self._stack = stack
        self._settings = settings
        self._settings_file = settings_file
        self._cluster = Cluster(settings)
        self._metrics_port = choose_port("management", set())

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["IntakeBench"]:
        """Prepare broker and shards."""
        await migrate_all(self._settings)
        await apply_to_broker(self._settings)
        try:
            for shard in self._cluster:
                await shard.primary.open()
            yield self
        finally:
            await self._cluster.close()

    async def together(self, events: int, batch: int = 1) -> Flow:
        """Publish as fast as confirms come while the consumer works; ends when all is stored."""
        with self._consumer() as consumer:
            await self._ready(consumer)
            account = self._account(consumer)
            start = await self._start(account)
            await self._publish(events, batch)
            return await self._finish(consumer, account, start, events)

    async def drain(self, events: int) -> Flow:
        """Let events pile up, then start the consumer; measures from its start."""
        await self._publish(events, 1)
        with self._consumer() as consumer:
            account = self._account(consumer)
            return await self._finish(consumer, account, await self._start(account), events)

    async def open_loop(self, rate: float, seconds: float) -> OpenLoop:
        """Publish at a fixed rate by the clock."""
        page = MetricsPage(f"http://{HOST}:{self._metrics_port}/metrics")
        with self._consumer() as consumer:
            await self._ready(consumer)
            async with aiohttp.ClientSession() as session:
                await self._paced(rate, 2.0)  # warm: connections, plans, caches
                earlier, stored = await page.read(session), await self._stored()
                events = await self._paced(rate, seconds)
                await self._until_stored(consumer, stored + events)
                buckets = since_then(earlier, await page.read(session))
        p50, p99 = (percentile_of_buckets(buckets, share) or 0.0 for share in (0.5, 0.99))
        return OpenLoop(rate=rate, events=events, p50_ms=round(p50 * 1e3, 1), p99_ms=round(p99 * 1e3, 1))

    async def peer(self, python: Path, events: int) -> Flow:
        """Let the peer program do the same with single events."""
        await self._publish(1, 1)
        with running_peer(python, self._stack, FOLDER / "peer.log") as process:
            before = await self._orders()
            await self._until_orders(process, before + 1)
            account = self._account(process)
            start = await self._start(account)
            before = await self._orders()
            await self._publish(events, 1)
            await self._until_orders(process, before + events)
            seconds, after = time.monotonic() - start.at, account.read()
        return _flow(events, seconds, start.cpu_s, after, rss=0.0, triggers={})

    # --- parts ----------------------------------------------------------------------------------------

    def _consumer(self) -> PipelineProcess:
        variables = {"POSTORDER_OPS_METRICS_PORT": str(self._metrics_port)}
        return PipelineProcess(
            self._settings_file, FOLDER / "consumer.log", variables, ("--only", "order-processed")
        )

    def _account(self, consumer: PipelineProcess | subprocess.Popen[bytes]) -> CpuAccount:
        pids = self._stack.pids
        return CpuAccount(
            {
                "broker": [pids["rabbitmq"]],
                "primaries": [pid for name, pid in pids.items() if name.endswith("-primary")],
                "replicas": [pid for name, pid in pids.items() if name.endswith("-replica")],
                "consumers": [consumer.pid],
                "publisher": [os.getpid()],
            }
        )

    async def _publish(self, events: int, batch: int) -> None:
        run = uuid4().hex[:8]
        single = batch == 1
        properties = property_bytes(content_type=STRUCTURED_TYPE if single else BATCH_TYPE)
        source: Iterable[bytes] = bodies(run, 0, events) if single else batch_bodies(run, events, batch)
        publisher = LeanPublisher(self._settings.amqp, "bench", 2000 if single else 100)
        await publisher.open()
        try:
            for body in source:
                await publisher.publish(_ROUTE, properties, body)
            await publisher.settled(_CONFIRM_TIMEOUT_S)
        finally:
            await publisher.close()

    async def _paced(self, rate: float, seconds: float) -> int:
        run = uuid4().hex[:8]
        properties = property_bytes(content_type=STRUCTURED_TYPE)
        publisher = LeanPublisher(self._settings.amqp, "bench", 100_000)
        await publisher.open()
        try:
            started, sent, events = time.monotonic(), 0, int(rate * seconds)
            while sent < events:
                due = min(events, int((time.monotonic() - started) * rate) + 1)
                while sent < due:
                    await publisher.publish(_ROUTE, properties, order_body(run, sent, now_text()))
                    sent += 1
                await asyncio.sleep(0.001)
            await publisher.settled(_CONFIRM_TIMEOUT_S)
        finally:
            await publisher.close()
        return events

    async def _start(self, account: CpuAccount) -> "_Start":
        return _Start(time.monotonic(), account.read(), await self._by_trigger())

    async def _finish(
        self, consumer: PipelineProcess, account: CpuAccount, start: "_Start", events: int
    ) -> Flow:
        stored = sum(count for count, _ in start.triggers.values())
        rss = await self._until_stored(consumer, stored + events)
        seconds = time.monotonic() - start.at
        after = account.read()
        triggers = {
            name: batches - start.triggers.get(name, (0, 0))[1]
            for name, (_, batches) in (await self._by_trigger()).items()
        }
        return _flow(events, seconds, start.cpu_s, after, rss=rss, triggers=triggers)

    async def _ready(self, consumer: PipelineProcess) -> None:
        """Send one event through, so that connections are open and statements prepared."""
        stored = await self._stored()
        await self._publish(1, 1)
        await self._until_stored(consumer, stored + 1)

    async def _until_stored(self, consumer: PipelineProcess, events: int) -> float:
        """Wait until so many events are committed; return the consumer's largest memory seen, in MB."""
        seen, deadline, rss = -1, 0.0, 0.0
        while True:
            consumer.check()
            rss = max(rss, rss_mb(consumer.pid))
            stored = await self._stored()
            if stored >= events:
                return rss
            if stored != seen:
                seen, deadline = stored, time.monotonic() + _STALL_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise BenchError(f"{events - stored} events are missing: see {consumer.log}")
            await asyncio.sleep(_POLL_S)

    async def _orders(self) -> int:
        return sum([(await shard.reader.totals()).orders for shard in self._cluster])

    async def _until_orders(self, process: subprocess.Popen[bytes], orders: int) -> None:
        """Wait until the peer has stored so many orders; it writes no ledger of batches."""
        deadline = time.monotonic() + _PEER_TIMEOUT_S
        while await self._orders() < orders:
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"the peer ended or stalled: see {FOLDER / 'peer.log'}")
            await asyncio.sleep(_PEER_POLL_S)

    async def _stored(self) -> int:
        return sum(events for events, _ in (await self._by_trigger()).values())

    async def _by_trigger(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for shard in self._cluster:
            for trigger, (events, batches) in (await shard.reader.intake_by_trigger()).items():
                before = found.get(trigger, (0, 0))
                found[trigger] = (before[0] + events, before[1] + batches)
        return found
