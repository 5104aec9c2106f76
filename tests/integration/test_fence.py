"""Who may write a slot, and how a running process finds its owner when that changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import orjson
import pytest
from flow import Flow
from real_stack import Bench, order_event

from pipeline.clock import SystemClock
from pipeline.errors import ShardMapError, SlotsMovedError
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import slot_of
from pipeline.storage.cluster import Cluster
from pipeline.storage.fence import FencedTransaction
from pipeline.storage.map_keeper import MapKeeper
from pipeline.storage.map_table import CHANGED
from pipeline.storage.outbox import Channel
from pipeline.storage.statements import FENCE

pytestmark = pytest.mark.integration

ORDER = "o-1"
SLOT = slot_of(ORDER)


@pytest.fixture
async def own_map(bench: Bench) -> AsyncIterator[Bench]:
    """The bench, with its shards' maps put back at the end."""
    tables = ("shard_slot", "shard_map")
    for table in tables:
        await bench.execute(f"CREATE TABLE saved_{table} AS TABLE {table}")
    try:
        yield bench
    finally:
        for table in tables:
            await bench.execute(
                f"TRUNCATE {table}; INSERT INTO {table} SELECT * FROM saved_{table}; DROP TABLE saved_{table}"
            )


@pytest.fixture
async def flow(own_map: Bench) -> AsyncIterator[Flow]:
    flow = Flow(own_map, park_after_s=5.0)
    own_map.cluster.on_map.append(flow.processor.resort)
    await flow.processor.start()
    yield flow
    await flow.processor.stop()
    assert flow.crashes == []


@asynccontextmanager
async def alone(bench: Bench, shard: str) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of somebody who changes what a shard owns."""
    endpoints = next(one for one in bench.stack.shards if one.name == shard)
    connection = await asyncpg.connect(endpoints.primary_dsn, timeout=5)
    try:
        async with FencedTransaction(connection, alone=True) as transaction:
            yield connection
            await transaction.commit()
    finally:
        await connection.close()


async def set_state(bench: Bench, shard: str, state: str | None) -> None:
    """Pause the slot, or take it away, without a word to anybody."""
    async with alone(bench, shard) as connection:
        if state:
            await connection.execute("UPDATE shard_slot SET state = $2 WHERE slot = $1", SLOT, state)
        else:
            await connection.execute("DELETE FROM shard_slot WHERE slot = $1", SLOT)
        await connection.execute("UPDATE shard_map SET is_settled = false")


async def hand_over(bench: Bench, *, notify: bool) -> ShardMap:
    """Give the slot to the other shard, as a move does once its rows are there."""
    before = bench.cluster.shard_map
    source = before.owners[SLOT]
    target = next(name for name in bench.cluster.shards if name != source)
    owners = [*before.owners]
    owners[SLOT] = target
    after = ShardMap(before.epoch + 1, tuple(owners))
    text, is_settled = msgspec.json.encode(after.owners).decode(), True
    await set_state(bench, source, None)
    for shard in (target, source):
        async with alone(bench, shard) as connection:
            if shard == target:
                await connection.execute("INSERT INTO shard_slot VALUES ($1, $2)", SLOT, after.epoch)
            await connection.execute(FENCE["write_map"], shard, after.epoch, text, is_settled)
            if notify:
                await connection.execute(FENCE["notify"], str(after.epoch))
    return after


def owner(bench: Bench) -> str:
    return bench.cluster.shard_map.owners[SLOT]


async def stored_on(bench: Bench) -> list[str]:
    """The shards that hold the order."""
    found = []
    for shard in bench.cluster.shards:
        if await bench.rows("SELECT FROM orders WHERE order_id = $1", ORDER, shard=shard):
            found.append(shard)
    return found


@pytest.mark.parametrize("state", ["leaving", "arriving", None])
async def test_a_slot_that_is_not_owned_is_not_written(own_map: Bench, flow: Flow, state: str | None) -> None:
    """I20, with the newest and with an old epoch: nothing of the batch is written."""
    bench = own_map
    rows = [flow.row(orjson.dumps(order_event(name))) for name in (ORDER, "o-2")]
    await set_state(bench, owner(bench), state)
    for epoch in (None, bench.cluster.router.epoch, 0):
        with pytest.raises(SlotsMovedError) as refused:
            await flow.write(owner(bench), rows, epoch)
        assert SLOT in refused.value.slots
    assert await bench.rows("SELECT FROM inbox") == []


async def test_an_old_map_is_no_obstacle_where_the_slot_stayed(own_map: Bench, flow: Flow) -> None:
    await flow.write(owner(own_map), [flow.row(orjson.dumps(order_event(ORDER)))], 0)
    assert await stored_on(own_map) == [owner(own_map)]


async def test_a_change_of_owner_waits_for_a_write_under_way_and_new_writes_wait_for_it(
    own_map: Bench, flow: Flow
) -> None:
    bench, shard = own_map, owner(own_map)
    async with (
        bench.cluster[shard].primary.connection() as connection,
        FencedTransaction(connection) as transaction,
    ):
        changing = asyncio.create_task(set_state(bench, shard, "leaving"))
        await bench.until_true(lambda: waits_for_the_fence(bench, shard))
        writing = asyncio.create_task(flow.write(shard, [flow.row(orjson.dumps(order_event(ORDER)))], None))
        await asyncio.sleep(0.1)  # time for a write that does not wait to be done
        assert not changing.done()
        assert not writing.done()
        await transaction.commit()
    await changing
    with pytest.raises(SlotsMovedError):
        await writing


async def waits_for_the_fence(bench: Bench, shard: str) -> bool:
    return bool(
        await bench.rows("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", shard=shard)
    )


async def test_events_of_a_paused_slot_wait_and_the_others_do_not(own_map: Bench, flow: Flow) -> None:
    bench, shard = own_map, owner(own_map)
    others = [name for name in (f"p-{n}" for n in range(60)) if slot_of(name) != SLOT]
    await set_state(bench, shard, "leaving")
    flow.give(orjson.dumps(order_event(ORDER)), *(orjson.dumps(order_event(name)) for name in others))
    await flow.until_acknowledged(len(others))
    assert await stored_on(bench) == []
    await set_state(bench, shard, "owned")
    await flow.until_acknowledged(len(others) + 1)
    assert await stored_on(bench) == [shard]
    assert flow.parking.parcels == []


async def test_a_writer_with_the_old_map_follows_the_slot(own_map: Bench, flow: Flow) -> None:
    """Nobody told it: the old owner's refusal makes it look."""
    bench, before = own_map, owner(own_map)
    await hand_over(bench, notify=False)
    flow.give(orjson.dumps(order_event(ORDER)))
    await flow.until_acknowledged(1)
    assert await stored_on(bench) == [owner(bench)] != [before]


async def test_what_waits_for_a_slot_for_too_long_goes_back_to_the_broker(own_map: Bench) -> None:
    bench = own_map
    flow = Flow(bench, park_after_s=0.1)
    await flow.processor.start()
    await set_state(bench, owner(bench), "leaving")
    flow.give(orjson.dumps(order_event(ORDER)))
    await flow.until_acknowledged(1)
    assert [parcel.trips for parcel in flow.parking.parcels] == [1]
    await flow.processor.stop()


@pytest.fixture
async def keeper(own_map: Bench) -> AsyncIterator[Metrics]:
    """A running map keeper, behind its first look at each shard; its metrics."""
    metrics, crashes = Metrics(), []
    keeper = MapKeeper(
        own_map.cluster,
        metrics=metrics,
        clock=SystemClock(),
        tasks=Tasks(lambda *crash: crashes.append(crash)),
    )
    await keeper.start()
    await own_map.until_true(lambda: looked_at(metrics, {shard.name: 0 for shard in own_map.cluster}))
    yield metrics
    await keeper.stop()
    assert crashes == []


async def looked_at(metrics: Metrics, leaving: dict[str, int]) -> bool:
    """Whether each shard's slots that leave were counted, and are so many."""
    read = metrics.registry.get_sample_value
    return all(read("postorder_slots_leaving", {"shard": name}) == n for name, n in leaving.items())


async def test_a_notice_is_enough(own_map: Bench, keeper: Metrics) -> None:
    after = await hand_over(own_map, notify=True)
    await own_map.until_true(lambda: adopted(own_map, after))


async def test_slots_that_nobody_may_write_are_counted(own_map: Bench, keeper: Metrics) -> None:
    """As a coordinator leaves them that was killed while it handed them over."""
    shard = owner(own_map)
    for state, count in (("leaving", 1), ("owned", 0)):
        await set_state(own_map, shard, state)
        await own_map.execute("SELECT pg_notify($1, '0')", CHANGED)
        await own_map.until_true(lambda count=count: looked_at(keeper, {shard: count}))


async def adopted(bench: Bench, shard_map: ShardMap) -> bool:
    return bench.cluster.shard_map == shard_map


async def test_messages_of_a_slot_that_is_not_owned_are_not_claimed(own_map: Bench, flow: Flow) -> None:
    bench, shard = own_map, owner(own_map)
    flow.give(orjson.dumps(order_event(ORDER)))
    await flow.until_acknowledged(1)
    outbox = bench.cluster[shard].outbox
    for state in ("leaving", "arriving"):
        await set_state(bench, shard, state)
        assert await outbox.claim(Channel.SMS, 10, flow.new_id()) == []
    await set_state(bench, shard, "owned")
    assert [claim.order_id for claim in await outbox.claim(Channel.SMS, 10, flow.new_id())] == [ORDER]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE shard_map SET shard = 'shard9'", "is the database of shard9"),
        (
            "UPDATE shard_map SET owners = jsonb_set(owners, '{7}', '\"shard9\"')",
            r"names shard9, the settings do not",
        ),
        ("UPDATE shard_map SET owners = jsonb_set(owners, '{7}', '7')", "not a list of names"),
        ("TRUNCATE shard_map", "no shard map: run `postorder migrate`"),
    ],
    ids=["another shard's database", "unknown shard", "malformed", "none"],
)
async def test_a_map_that_makes_no_sense_is_refused(own_map: Bench, change: str, problem: str) -> None:
    await own_map.execute(change)
    async with opened_cluster(own_map) as cluster:
        with pytest.raises(ShardMapError, match=problem):
            await cluster.load_map()


async def test_the_newest_map_wins_and_an_older_one_changes_nothing(own_map: Bench) -> None:
    after = await hand_over(own_map, notify=False)
    await own_map.execute("UPDATE shard_map SET epoch = epoch - 1 WHERE shard = 'shard0'")
    async with opened_cluster(own_map) as cluster:
        await cluster.load_map()
        assert cluster.shard_map == after
        await cluster.adopt(ShardMap(after.epoch - 1, after.owners))
        assert cluster.router.epoch == after.epoch


@asynccontextmanager
async def opened_cluster(bench: Bench, **options: Any) -> AsyncIterator[Cluster]:
    cluster = Cluster(bench.settings, **options)
    try:
        for shard in cluster:
            await shard.primary.open()
        yield cluster
    finally:
        await cluster.close()


async def test_a_shard_that_the_settings_got_later_is_opened_and_written_to(own_map: Bench) -> None:
    bench = own_map
    one, two = bench.settings.shards
    known = msgspec.structs.replace(bench.settings, shards=(one,))
    cluster = Cluster(known, lambda name: two if name == two.name else None)
    added: list[str] = []
    cluster.on_added.append(lambda shard: added.append(shard.name))
    try:
        await cluster[one.name].primary.open()
        await cluster.load_map()
        assert added == [two.name]
        assert await cluster[two.name].maps.read()
    finally:
        await cluster.close()
