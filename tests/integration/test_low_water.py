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


class Looks:
    """A mark, and looks from it at times of the test's choice. `AT`: what they come to."""

    AT = datetime(2026, 11, 21, tzinfo=UTC)
    ON, BACK = AT - SLACK, AT - SLACK - NEAR

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.mark = LowWater()
        monkeypatch.setattr("pipeline.storage.low_water.time.monotonic", lambda: self.now)

    def look(self, after_s: float = 0.0, *, succeeds: bool = True) -> datetime | None:
        """Look, and say from where on that was."""
        self.now += after_s
        start = self.mark.next()
        if succeeds:
            self.mark.looked(self.AT)
        return start


def test_a_mark_goes_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    assert looks.look() is None  # nothing is known yet
    assert looks.look() == looks.ON
    assert looks.look(10.0) is None  # what became visible late when everything began
    assert looks.look() == looks.ON
    assert looks.look(10.0) == looks.BACK
    assert looks.look() == looks.ON
    assert looks.look(590.0) is None
    assert looks.look() == looks.ON
    assert looks.look(10.0) == looks.BACK


def test_a_look_back_that_failed_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    looks.look()
    looks.look(10.0)
    assert looks.look(10.0, succeeds=False) == looks.BACK
    assert looks.look() == looks.BACK
    assert looks.look() == looks.ON
    assert looks.look(600.0, succeeds=False) is None
    assert looks.look() == looks.BACK  # what is new does not wait for a look at everything that fails again
    assert looks.look() == looks.ON
    assert looks.look(30.0) is None
    assert looks.look(30.0) == looks.BACK


def test_a_look_that_was_under_way_when_all_was_to_be_looked_at_anew_is_not_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Looks(monkeypatch)
    looks.look()
    looks.look(10.0)
    assert looks.look(10.0, succeeds=False) == looks.BACK
    looks.mark.look_anew()
    looks.mark.looked(looks.AT)
    assert looks.look() is None
    assert looks.look() == looks.ON
    assert looks.look(10.0) is None
    assert looks.look(10.0) == looks.BACK
