"""A shard comes and goes under steady load: what moves, how long writes stall, what it does to latency."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from consumers.migration import apply_to_broker, migrate_all
from consumers.resharding import Plan, carry_out, finished, opened
from consumers.topology import DIRECT_EXCHANGE
from loadtest.event_source import now_text, order_body
from loadtest.intake_bench import FOLDER, BenchError
from loadtest.metrics_page import MetricsPage, percentile_of_buckets, since_then
from loadtest.pipeline_process import PipelineProcess
from pipeline.ingest.content_mode import STRUCTURED_TYPE
from pipeline.resharding.planning import planned_add, planned_remove
from pipeline.resharding.progress import nobody
from pipeline.resharding.tally import Outcome
from pipeline.resharding.throttle import Limits
from pipeline.resharding.verification import verify
from pipeline.settings import Settings, load_settings
from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.cluster import Cluster
from pipeline.storage.shard import Shard
from stack.ports import HOST, choose_port

NEW = "shard2"
_ROUTE = route_of(DIRECT_EXCHANGE, "order.processed", mandatory=True)
_PROPERTIES = property_bytes(content_type=STRUCTURED_TYPE)
_CONFIRM_S = 60.0
_STALLED_S = 60.0


class ReshardFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One change. Shares of all slots; times from publish to committed; a stall is a group's pause.

    `missing`, `extra` and `mismatched`: rows that differed between the old shard and the new one just before
    slots were handed over, and orders published that are on no shard, or on two.
    """

    moved_share: float
    ideal_share: float
    slots: int
    groups: int
    rows: int
    move_s: float
    finish_s: float
    stall_ms_p50: float
    stall_ms_max: float
    p99_before_ms: float
    p99_during_ms: float
    p99_finish_ms: float
    p99_after_ms: float
    missing: int
    extra: int
    mismatched: int


class ReshardReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `make bench-reshard` measured, in one run."""

    at: str
    machine: str
    command: str
    events_per_s: float
    orders_before: int
    add: ReshardFigures
    remove: ReshardFigures


class SteadyLoad:
    """Publishes orders at a rate. Mutable state: how many so far, and the publisher while it goes on."""

    def __init__(self, settings: Settings, rate: float) -> None:
        self._settings = settings
        self._rate = rate
        self._publisher = LeanPublisher(settings.amqp, "bench", 100_000)
        self.run = uuid4().hex[:8]
        self.published = 0

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Publish inside the block; at its end everything was confirmed."""
        async with self._connected():
            task = asyncio.create_task(self._pace())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def preload(self, orders: int) -> None:
        """Publish so many as fast as it goes."""
        async with self._connected():
            for _ in range(orders):
                await self._one()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        self._publisher = LeanPublisher(self._settings.amqp, "bench", 100_000)
        await self._publisher.open()
        try:
            yield
            await self._publisher.settled(_CONFIRM_S)
        finally:
            await self._publisher.close()

    async def _pace(self) -> None:
        started, before = time.monotonic(), self.published
        while True:
            due = before + int((time.monotonic() - started) * self._rate) + 1
            while self.published < due:
                await self._one()
            await asyncio.sleep(0.001)

    async def _one(self) -> None:
        await self._publisher.publish(_ROUTE, _PROPERTIES, order_body(self.run, self.published, now_text()))
        self.published += 1


class ReshardBench:
    """On a stack of three shards, the third of which owns nothing yet."""

    def __init__(self, two: Path, three: Path) -> None:
        self._two, self._config = two, three
        self._settings = load_settings(three, {})
        self._port = choose_port("management", set())
        self._page = MetricsPage(f"http://{HOST}:{self._port}/metrics")

    async def measure(self, rate: float, orders: int, calm_s: float) -> tuple[ReshardFigures, ReshardFigures]:
        """Return what adding the shard and removing it came to."""
        await migrate_all(load_settings(self._two, {}))
        await migrate_all(self._settings)
        await apply_to_broker(self._settings)
        load = SteadyLoad(self._settings, rate)
        variables = {"POSTORDER_OPS_METRICS_PORT": str(self._port)}
        log = FOLDER / "consumer.log"
        with PipelineProcess(self._config, log, variables, ("--only", "order-processed")) as process:
            await self._preload(load, orders)
            async with load.going_on(), aiohttp.ClientSession() as session:
                scene = _Scene(self._page, session, self._settings, calm_s)
                await asyncio.sleep(calm_s)  # warm
                add = await scene.change(lambda cluster: planned_add(cluster, NEW), 1 / 3)
                remove = await scene.change(lambda cluster: planned_remove(cluster, NEW), 1 / 3)
            await self._until_stored(load)
            process.check()
        missing, extra = await self._difference(load)
        return (
            msgspec.structs.replace(add, missing=add.missing + missing, extra=add.extra + extra),
            msgspec.structs.replace(remove, missing=remove.missing + missing, extra=remove.extra + extra),
        )

    async def _preload(self, load: SteadyLoad, orders: int) -> None:
        await load.preload(orders)
        await self._until_stored(load)

    async def _until_stored(self, load: SteadyLoad) -> None:
        seen, deadline = -1, 0.0
        async with opened(self._settings) as cluster:
            while (stored := await _stored(cluster)) < load.published:
                if stored != seen:
                    seen, deadline = stored, time.monotonic() + _STALLED_S
                elif time.monotonic() > deadline:
                    raise BenchError(f"{load.published - stored} orders are missing")
                await asyncio.sleep(0.2)

    async def _difference(self, load: SteadyLoad) -> tuple[int, int]:
        """Return how many published orders are on no shard, and how many rows there are too many."""
        async with opened(self._settings) as cluster:
            found = await verify(cluster)
            if found.problems:
                raise BenchError("; ".join(found.problems))
            ids = [name for shard in cluster for name in await _order_ids(shard, load.run)]
        return load.published - len(set(ids)), len(ids) - len(set(ids))


class _Scene:
    """The load goes on; a change is made, and latencies are read before, during and after it."""

    def __init__(
        self, page: MetricsPage, session: aiohttp.ClientSession, settings: Settings, calm_s: float
    ) -> None:
        self._page = page
        self._session = session
        self._settings = settings
        self._calm_s = calm_s

    async def change(self, plan: Plan, ideal_share: float) -> ReshardFigures:
        before = await self._p99_of(asyncio.sleep(self._calm_s))
        started = time.monotonic()
        outcome: list[Outcome] = []
        during = await self._p99_of(self._in_thread(plan, outcome))
        moved_s = time.monotonic() - started
        finish = await self._p99_of(asyncio.to_thread(_finish, self._settings))
        finish_s = time.monotonic() - started - moved_s
        after = await self._p99_of(asyncio.sleep(self._calm_s))
        [done] = outcome
        return ReshardFigures(
            moved_share=round(done.slots / SLOT_COUNT, 4),
            ideal_share=round(ideal_share, 4),
            slots=done.slots,
            groups=len(done.stalls_ms),
            rows=done.differences.rows,
            move_s=round(moved_s, 1),
            finish_s=round(finish_s, 1),
            stall_ms_p50=sorted(done.stalls_ms)[len(done.stalls_ms) // 2],
            stall_ms_max=done.stall_ms_max,
            p99_before_ms=before,
            p99_during_ms=during,
            p99_finish_ms=finish,
            p99_after_ms=after,
            missing=done.differences.missing,
            extra=done.differences.extra,
            mismatched=done.differences.mismatched,
        )

    async def _in_thread(self, plan: Plan, outcome: list[Outcome]) -> None:
        """Coordinate on a loop of its own: the publisher's must not hold it up."""
        outcome.append(await asyncio.to_thread(_carry_out, self._settings, plan))

    async def _p99_of(self, what: Awaitable[None]) -> float:
        earlier = await self._page.read(self._session)
        await what
        buckets = since_then(earlier, await self._page.read(self._session))
        return round((percentile_of_buckets(buckets, 0.99) or 0.0) * 1e3, 1)


async def _order_ids(shard: Shard, run: str) -> list[str]:
    async with shard.primary.connection() as connection:
        rows = await connection.fetch("SELECT order_id FROM orders WHERE order_id LIKE $1", f"{run}-%")
    return [row["order_id"] for row in rows]


def _carry_out(settings: Settings, plan: Plan) -> Outcome:
    return asyncio.run(carry_out(settings, plan, Limits(), nobody, finish=False))


def _finish(settings: Settings) -> None:
    asyncio.run(finished(settings, Limits(), nobody))


async def _stored(cluster: Cluster) -> int:
    found: Sequence[dict[str, tuple[int, int]]] = [
        await shard.reader.intake_by_trigger() for shard in cluster
    ]
    return sum(events for triggers in found for events, _ in triggers.values())


def print_reshard(report: ReshardReport, console: Console) -> None:
    """Print both changes side by side."""
    table = Table("", "add", "remove", title=f"{report.events_per_s:,.0f} orders/s", title_justify="left")
    for name in ReshardFigures.__struct_fields__:
        table.add_row(name, *(f"{getattr(figures, name):,}" for figures in (report.add, report.remove)))
    console.print(table)
