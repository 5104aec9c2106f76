"""The intake transaction on a real shard, and what the processor makes of its failures."""

import asyncio
from collections.abc import Iterable

import orjson
import pytest
from deliveries import ParkingLot, delivery
from real_stack import Bench, order_event

from pipeline.clock import SystemClock
from pipeline.ingest.batcher import Batcher, Item, Lane
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.entries import EntryBuilder
from pipeline.ingest.lane_writer import LaneWriter
from pipeline.ingest.pressure import Pressure
from pipeline.ingest.processor import Processor
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.sharding.router import Router

pytestmark = pytest.mark.integration

PARK_AFTER_S = 0.5


class Flow:
    """A processor on the real cluster, fed by hand."""

    def __init__(self, bench: Bench) -> None:
        self.acknowledged: list[bytes] = []
        self.crashes: list[BaseException] = []
        self._settled = asyncio.Event()
        entries = EntryBuilder(
            bench.cluster.router, document_bytes_max=10_000, document_hosts=(), allow_http=False
        )
        metrics, pressure, self.parking = Metrics(), Pressure(high=20_000), ParkingLot()
        batcher = Batcher(list(bench.cluster.shards), batch_max=100, linger_s=0.005)
        tasks = Tasks(lambda _name, error: self.crashes.append(error))
        cluster = bench.cluster

        def make_writer(name: str, lane: Lane) -> LaneWriter:
            return LaneWriter(
                cluster[name],
                lane,
                parking=self.parking,
                park_after_s=PARK_AFTER_S,
                attempts_max=3,
                pressure=pressure,
                metrics=metrics,
                clock=SystemClock(),
                on_committed=lambda _shard: None,
                router=cluster.router,
                refresh=cluster.refresh,
                route=self._route,
                tasks=tasks,
            )

        self.processor = Processor(
            decoder=Decoder(message_bytes_max=1_000_000),
            entries=entries,
            batcher=batcher,
            make_writer=make_writer,
            router=cluster.router,
            batches_in_flight=2,
            park_after_s=PARK_AFTER_S,
            pressure=pressure,
            metrics=metrics,
            clock=SystemClock(),
            tasks=tasks,
        )

    @property
    def writers(self) -> list[LaneWriter]:
        return self.processor.writers

    def _route(self, items: Iterable[Item]) -> None:
        self.processor.route(items)

    def give(self, *bodies: bytes) -> None:
        for body in bodies:
            self.processor.accept(self._delivery(body))

    async def until_acknowledged(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.acknowledged) < count:
                self._settled.clear()
                await self._settled.wait()

    def _settle(self, body: bytes) -> None:
        self.acknowledged.append(body)
        self._settled.set()

    def _delivery(self, body: bytes) -> Delivery:
        return delivery(
            body,
            settle=lambda _tag: self._settle(body),
            received_at=asyncio.get_running_loop().time(),
        )


@pytest.fixture
async def flow(bench: Bench):
    flow = Flow(bench)
    await flow.processor.start()
    yield flow
    await flow.processor.stop()
    assert flow.crashes == []


async def test_a_delivery_is_acknowledged_after_its_rows_are_on_the_replica(bench: Bench, flow: Flow) -> None:
    bodies = [orjson.dumps(order_event(f"o-{number}")) for number in range(250)]
    flow.give(*bodies)
    await flow.processor.drain()
    assert sorted(flow.acknowledged) == sorted(bodies)
    [*counts] = await bench.rows("SELECT count(*) AS orders FROM orders", replica=True)
    assert sum(row["orders"] for row in counts) == 250


async def test_a_row_that_only_the_database_refuses_is_isolated(bench: Bench, flow: Flow) -> None:
    """A check that upstream's contract does not know stands for whatever only PostgreSQL finds."""
    await bench.execute("ALTER TABLE orders ADD CONSTRAINT no_13 CHECK (order_id <> 'o-13')")
    try:
        flow.give(*(orjson.dumps(order_event(f"o-{number}")) for number in range(40)))
        await flow.processor.drain()
    finally:
        await bench.execute("ALTER TABLE orders DROP CONSTRAINT no_13")
    status = await bench.status()
    assert status.totals["orders"] == 39
    assert len(flow.acknowledged) == 40
    [row] = await bench.rows("SELECT reason, detail, body FROM quarantine")
    assert row["reason"] == "refused_by_database"
    assert "no_13" in row["detail"]
    assert orjson.loads(row["body"])["data"]["order_id"] == "o-13"
    assert status.accounting.balances


async def test_a_time_that_no_database_can_hold_is_isolated(bench: Bench, flow: Flow) -> None:
    """A valid RFC 3339 time whose UTC form lies before year 1."""
    good = [orjson.dumps(order_event(f"o-{number}")) for number in range(3)]
    bad = orjson.dumps(order_event("o-bad", processed_at="0001-01-01T00:00:00+14:00"))
    flow.give(*good, bad)
    await flow.processor.drain()
    [row] = await bench.rows("SELECT reason, body FROM quarantine")
    assert (row["reason"], row["body"]) == ("refused_by_database", bad)
    assert (await bench.status()).totals["orders"] == 3


async def test_a_shard_that_is_away_parks_its_events(bench: Bench, flow: Flow) -> None:
    """The other shard's events are stored and acknowledged meanwhile, and none of either is lost."""
    shard_map = bench.cluster.shard_map
    router = Router(shard_map)
    names = [f"o-{number}" for number in range(200)]
    away, *_ = bench.cluster.shards
    there = [name for name in names if router.place(name).shard != away]
    await bench.cluster[away].primary.close()
    flow.give(*(orjson.dumps(order_event(name)) for name in names))
    await flow.until_acknowledged(len(names))
    assert len(await bench.rows("SELECT FROM orders")) == len(there)
    assert len(flow.parking.parcels) == len(names) - len(there)
    assert {parcel.trips for parcel in flow.parking.parcels} == {1}
    await bench.cluster[away].primary.open()
    await bench.until(lambda: _back(flow), "the shard is known to be back")
    flow.give(*(parcel.delivery.body for parcel in flow.parking.parcels))
    await flow.processor.drain()
    status = await bench.status()
    assert (status.totals["orders"], status.totals["duplicates"]) == (len(names), 0)


async def _back(flow: Flow) -> bool:
    return "away" not in repr(flow.writers)


async def test_a_batch_of_duplicates_still_writes_a_row_that_waits_for_the_replica(
    bench: Bench, flow: Flow
) -> None:
    """Without it the commit of nothing but duplicates returns at once, replica or not (I2)."""
    body = orjson.dumps(order_event("o-1"))
    flow.give(body)
    await flow.until_acknowledged(1)
    batches = sum(row["n"] for row in await bench.rows("SELECT count(*) AS n FROM intake_batch"))
    flow.give(body)
    await flow.processor.drain()
    after = await bench.rows("SELECT count(*) AS n, sum(duplicates) AS d FROM intake_batch", replica=True)
    assert sum(row["n"] for row in after) == batches + 1
    assert sum(row["d"] or 0 for row in after) == 1
