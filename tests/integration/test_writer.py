"""The intake transaction on a real shard, and what the processor makes of its failures."""

import orjson
import pytest
from flow import Flow
from real_stack import Bench, order_event

from pipeline.sharding.router import Router

pytestmark = pytest.mark.integration


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
