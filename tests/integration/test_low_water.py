"""Claims and sweeps stay cheap while a snapshot is held open: the low-water mark passes over what is done."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from ledger import Ledger
from real_stack import Bench

from pipeline.storage.low_water import NEAR, SLACK, LowWater
from pipeline.storage.statements import EFFECTS, OUTBOX

pytestmark = pytest.mark.integration

DONE = 20_000
_FLOW = """
INSERT INTO outbox (slot, effect_id, order_id, channel, kind, expires_at, due_at)
SELECT $1, gen_random_uuid(), 'o', 'sms', 'order_sms', now(), now() - interval '1 minute'
FROM generate_series(1, $2::integer)
"""


async def test_what_was_done_behind_a_held_snapshot_is_passed_over(bench: Bench) -> None:
    ledger = Ledger(bench)
    dsn = bench.stack.shards[0].primary_dsn
    holder, connection = await asyncpg.connect(dsn, timeout=5), await asyncpg.connect(dsn, timeout=5)
    try:
        await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM shard_map")
        await connection.execute(_FLOW, bench.cluster.shard_map.slots_of("shard0")[0], DONE)
        await connection.execute("UPDATE outbox SET state = 'submitting', lease_until = due_at")
        await connection.execute("UPDATE outbox SET state = 'accepted', lease_until = NULL")
        await ledger.owe(1)
        lately = datetime.now(UTC) - timedelta(seconds=20)
        for name, statement, arguments in (
            ("claim", OUTBOX["claim"], ("sms", 100, uuid4(), timedelta(seconds=60))),
            ("expire_leases", EFFECTS["expire_leases"], (1000,)),
        ):
            whole = await pages(connection, statement, *arguments, None)
            assert whole > 100, name  # so the mark is needed
            assert await pages(connection, statement, *arguments, lately) < 30, name
    finally:
        await holder.close()
        await connection.close()


async def test_a_mark_ahead_of_the_servers_clock_hides_nothing_that_becomes_due(bench: Bench) -> None:
    """The clock was set back, or another server's counts since a failover."""
    await Ledger(bench).owe(1)
    connection = await asyncpg.connect(bench.stack.shards[0].primary_dsn, timeout=5)
    ahead = datetime.now(UTC) + timedelta(hours=1)
    try:
        await connection.execute("BEGIN; UPDATE outbox SET due_at = now()")
        assert await connection.fetchval(OUTBOX["next_due"], "sms", ahead) == 0
        claimed = await connection.fetch(OUTBOX["claim"], "sms", 10, uuid4(), timedelta(seconds=60), ahead)
        assert len(claimed) == 1
    finally:
        await connection.close()


async def pages(connection: asyncpg.Connection, statement: str, *arguments: object) -> int:
    """How many pages the scan of the outbox by time looks at; changes nothing."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        prepared = await connection.prepare(statement)
        [found] = await prepared.explain(*arguments, analyze=True)
    finally:
        await transaction.rollback()
    scans = [node for node in nodes(found["Plan"]) if "idx_outbox" in json.dumps(node.get("Index Name", ""))]
    return sum(int(scan["Shared Hit Blocks"] + scan["Shared Read Blocks"]) for scan in scans)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def test_a_mark_goes_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("pipeline.storage.low_water.time.monotonic", lambda: now)
    mark, at = LowWater(), datetime(2026, 11, 21, tzinfo=UTC)
    assert mark.next() is None  # nothing is known yet
    mark.reached(at)
    assert mark.next() == at - SLACK
    now += 10.0
    assert mark.next() == at - SLACK - NEAR
    assert mark.next() == at - SLACK
    now += 600.0
    assert mark.next() is None
    assert mark.next() == at - SLACK
