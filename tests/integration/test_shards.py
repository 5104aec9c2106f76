"""Slots move between real shards while events are written: add, finish, abort, and what is refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import orjson
import pytest
from flow import Flow
from moving_shards import (
    NEW,
    Interruption,
    Moving,
    Writing,
    add,
    add_few,
    check_all_once,
    interrupted_after,
    moving_flow,
    verified,
    writing,
)
from real_stack import order_event
from spare_database import elsewhere

from consumers.resharding import aborted, carry_out, finished, opened
from pipeline.errors import CoordinatorReplacedError, PostorderError, ReshardingError, SlotsMovedError
from pipeline.resharding.change import begin, take_over
from pipeline.resharding.coordinator import Coordinator
from pipeline.resharding.planning import planned_add, planned_move, planned_remove
from pipeline.resharding.progress import Phase, Progress, nobody
from pipeline.resharding.throttle import Limits
from pipeline.sharding.planner import SlotMove
from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.slot_ownership import SlotOwnership
from stack.postgres_settings import SUPERUSER
from stack.state import load_state
from stack.status import StackStatus

pytestmark = pytest.mark.integration


@pytest.fixture
async def flow(moving: Moving) -> AsyncIterator[Flow]:
    async with moving_flow(moving) as running:
        yield running


async def test_a_shard_is_added_while_orders_are_written(moving: Moving, flow: Flow) -> None:
    before = moving.bench.cluster.shard_map
    async with writing(flow) as orders:
        outcome = await carry_out(moving.settings, add, Limits(), nobody, finish=False)
        held = await verified(moving)
        assert held.problems == ()
        assert len(held.moving) == 2
        assert held.compared.rows > 0  # of what has moved, the old shards have the same
        await finished(moving.settings, Limits(), nobody)
    await check_all_once(moving, orders)
    await moving.bench.cluster.load_map()
    after = moving.bench.cluster.shard_map
    moved = [slot for slot in range(SLOT_COUNT) if before.owners[slot] != after.owners[slot]]
    assert {after.owners[slot] for slot in moved} == {NEW}
    assert len(moved) == outcome.slots == SLOT_COUNT // 3  # I18
    assert outcome.differences.is_clean
    assert await moving.rows_of(NEW, "orders") > 0


async def test_an_abort_after_some_flips_brings_everything_back(moving: Moving, flow: Flow) -> None:
    before = moving.bench.cluster.shard_map
    async with writing(flow) as orders:
        with pytest.raises(Interruption):
            await carry_out(moving.settings, add_few, Limits(), interrupted_after(3), finish=False)
        new = SlotOwnership(NEW, moving.bench.cluster[NEW].primary)
        written_there = await flow_until_written(moving, orders)
        assert len(await new.held(range(SLOT_COUNT))) > 16
        assert written_there > 0
        await aborted(moving.settings, Limits(), nobody)
    await check_all_once(moving, orders)
    await moving.bench.cluster.load_map()
    assert moving.bench.cluster.shard_map.owners == before.owners
    assert moving.bench.cluster.shard_map.epoch > before.epoch + 3
    assert await moving.rows_of(NEW, "inbox") == 0


async def flow_until_written(moving: Moving, orders: Writing) -> int:
    """Wait until something was written on the new shard that is not of the copy."""
    async with asyncio.timeout(10):
        while True:
            sql = "SELECT coalesce(sum(orders), 0)::int AS orders FROM intake_batch"
            [row] = await moving.bench.rows(sql, shard=NEW)
            if row["orders"]:
                return row["orders"]
            await asyncio.sleep(0.02)


async def test_a_shard_is_removed_and_what_it_owed_goes_along(moving: Moving, flow: Flow) -> None:
    async with writing(flow) as orders:
        await carry_out(
            moving.settings, lambda cluster: planned_remove(cluster, "shard1"), Limits(), nobody, finish=True
        )
    await check_all_once(moving, orders)
    assert await moving.rows_of("shard1", "outbox") == 0
    await moving.bench.cluster.load_map()
    assert moving.bench.cluster.shard_map.shares() == {"shard0": SLOT_COUNT}


async def test_a_writer_with_the_old_map_cannot_write_on_the_old_shard(moving: Moving, flow: Flow) -> None:
    """I20, and half of the fleet with the old map: refused, although the rows are still there."""
    old = moving.bench.cluster.shard_map
    await carry_out(moving.settings, add_few, Limits(), nobody, finish=False)
    async with opened(moving.settings) as cluster:
        moved = cluster.shard_map.slots_of(NEW)
    rows = [flow.row(orjson.dumps(order_event(f"o-{number}"))) for number in range(2000)]
    stale = [row for row in rows if row.slot in moved]
    assert stale
    for row in stale:
        with pytest.raises(SlotsMovedError):
            await flow.write(old.owners[row.slot], [row], old.epoch)
        with pytest.raises(SlotsMovedError):  # a writer that looks each slot up
            await flow.write(old.owners[row.slot], [row], None)
    assert await moving.order_ids() == []
    await finished(moving.settings, Limits(), nobody)
    with pytest.raises(SlotsMovedError):
        await flow.write(old.owners[stale[0].slot], stale[:1], old.epoch)


async def test_who_was_replaced_can_change_nothing(moving: Moving) -> None:
    """Two coordinators of one change: the one that came second is in charge, wherever the first one is."""
    async with opened(moving.settings) as first, opened(moving.settings) as second:
        change = await begin(first, add_few(first), {}, Limits())
        await take_over(second)
        with pytest.raises(CoordinatorReplacedError):
            await Coordinator(first, change).run()
        with pytest.raises(CoordinatorReplacedError):
            await Coordinator(first, change).abort()
        assert await moving.links() == []
        with pytest.raises(ReshardingError, match="slots are moving"):
            await begin(second, add_few(second), {}, Limits())
    await aborted(moving.settings, Limits(), nobody)
    assert (await verified(moving)).problems == ()


async def test_rows_that_differ_stop_the_move_and_pause_nothing(moving: Moving, flow: Flow) -> None:
    """A row that was changed on the way: named, not flipped, and its slot takes writes."""
    async with writing(flow) as orders:

        async def tamper() -> None:
            new = moving.bench.cluster[NEW].primary
            async with new.connection() as connection:
                await connection.execute("UPDATE orders SET number = 'tampered'")

        copied = asyncio.Event()

        def report(progress: Progress) -> None:
            if progress.phase is Phase.COPYING and progress.done == progress.total:
                copied.set()
                raise Interruption  # as if killed: the copy stays

        with pytest.raises(Interruption):
            await carry_out(moving.settings, add, Limits(), report, finish=False)
        assert copied.is_set()
        await tamper()
        async with opened(moving.settings) as cluster:
            coordinator = Coordinator(cluster, await take_over(cluster))
            with pytest.raises(PostorderError, match=r"mismatched: orders slot \d+"):
                await coordinator.run()
        paused = await moving.bench.rows("SELECT slot FROM shard_slot WHERE state = 'leaving'")
        assert paused == []
        await aborted(moving.settings, Limits(), nobody)
    await check_all_once(moving, orders)


async def test_a_replica_that_lags_holds_the_copy_up(
    moving: Moving, flow: Flow, stack: StackStatus, stack_folder: Path
) -> None:
    """Nothing of the move is begun while the replica is behind; when it has caught up, the move goes on."""
    waiting = asyncio.Event()

    def report(progress: Progress) -> None:
        if progress.phase is Phase.WAITING:
            waiting.set()

    state = load_state(stack_folder)
    password = state.secrets[SUPERUSER]
    replica = elsewhere(stack.shards[1].replica_dsn, SUPERUSER)
    address = replica.rpartition("@")[2]
    admin = await asyncpg.connect(f"postgresql://{SUPERUSER}:{password}@{address}")
    limits = Limits(lag_bytes_max=10_000)
    await admin.execute("SELECT pg_wal_replay_pause()")
    try:
        orders = Writing(flow)
        orders.give(300)
        await orders.done()
        plan = lambda cluster: planned_move(cluster, cluster.shard_map.slots_of("shard1")[:32], "shard0")  # noqa: E731
        task = asyncio.create_task(carry_out(moving.settings, plan, limits, report, finish=True))
        async with asyncio.timeout(10):
            await waiting.wait()
        assert await moving.links() == []
    finally:
        await admin.execute("SELECT pg_wal_replay_resume()")
        await admin.close()
    assert (await task).slots == 32
    await check_all_once(moving, orders)


REFUSED = {
    "a shard that is not in the settings": (lambda c: planned_add(c, "shard9"), "unknown shard shard9"),
    "a shard that owns slots already": (lambda c: planned_add(c, "shard0"), "in the map already"),
    "a target without slots": (lambda c: planned_move(c, [1], NEW), "unknown shard shard2"),
    "a slot that is there already": (
        lambda c: planned_move(c, c.shard_map.slots_of("shard0")[:1], "shard0"),
        "on shard shard0 already",
    ),
    "a removal of a shard that is not there": (lambda c: planned_remove(c, NEW), "unknown shard shard2"),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_a_plan_that_makes_no_sense_is_refused(bench, why: str) -> None:
    await bench.cluster.load_map()
    plan, text = REFUSED[why]
    with pytest.raises(PostorderError, match=text):
        plan(bench.cluster)


async def test_what_is_refused_changes_nothing(moving: Moving, flow: Flow) -> None:
    [slot] = moving.bench.cluster.shard_map.slots_of("shard0")[:1]
    order = (
        "INSERT INTO inbox (slot, event_key, payload_hash) VALUES ($1, gen_random_uuid(), gen_random_uuid())"
    )
    plan = lambda _cluster: [SlotMove(slot, "shard0", NEW)]  # noqa: E731

    async def refused(text: str) -> None:
        with pytest.raises(PostorderError, match=text):
            await carry_out(moving.settings, plan, Limits(), nobody, finish=False)
        assert (
            await moving.bench.rows("SELECT FROM slot_move WHERE state NOT IN ('finished', 'aborted')") == []
        )
        assert await moving.bench.rows("SELECT FROM shard_slot WHERE state <> 'owned'") == []
        assert await moving.links() == []

    new = moving.bench.cluster[NEW].primary
    async with new.connection() as connection:
        await connection.execute(order, slot)
    await refused("shard2 is not empty: its inbox hold rows")
    async with new.connection() as connection:
        await connection.execute("TRUNCATE inbox")
        await connection.execute("UPDATE migration SET number = 99 WHERE number = 5")
    await refused("shard2 is at schema")
    async with new.connection() as connection:
        await connection.execute("UPDATE migration SET number = 5 WHERE number = 99")
        await connection.execute("SELECT pg_advisory_lock(1886352244)")  # as a migration holds it
        await refused("a migration runs")
        await connection.execute("SELECT pg_advisory_unlock_all()")
        await connection.execute("UPDATE shard_map SET shard = 'shard7'")
    await refused("is the database of shard7")
    async with new.connection() as connection:
        await connection.execute(
            "UPDATE shard_map SET shard = 'shard2', owners = jsonb_set(owners, '{5}', '7')"
        )
    await refused("not a list of names")
