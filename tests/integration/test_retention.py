"""Retention: what is old goes, what is needed stays, the sums still add up, and files stop growing."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aged_rows import KEEP, Rows
from commands import postorder
from on_record import last_done
from real_stack import Bench, invoice_event, order_event

from pipeline.clock import SystemClock
from pipeline.control.audit_log import AuditLog
from pipeline.errors import SettingsError
from pipeline.lifecycle import Tasks
from pipeline.settings import RetentionSettings, load_settings
from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.retention import Counts, Retention, TableRetention

pytestmark = pytest.mark.integration

FINAL = ("accepted", "delivered", "undelivered", "suppressed", "expired", "failed", "abandoned")
OPEN = ("pending", "submitting", "unknown")


@pytest.fixture
async def shard(bench: Bench) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(bench.stack.shards[0].primary_dsn, timeout=5)
    await bench.execute("TRUNCATE retention_walk, retired_effect")
    try:
        yield Rows(bench, connection)
    finally:
        await connection.close()  # first: what failed on it may hold locks
        await bench.execute(
            "TRUNCATE inbox, orders, invoices, outbox, effect_note, recipient_day, "
            "sms_spend, retention_walk, retired_effect"
        )


async def test_what_is_old_and_settled_goes_and_all_else_stays(shard: Rows) -> None:
    for state in FINAL:
        await shard.add(f"old-{state}", days=31, states=(state,))
        await shard.add(f"young-{state}", days=29, states=(state,))
    for state in OPEN:
        await shard.add(f"old-{state}", days=31, states=("accepted", state))
    assert await shard.walk() == {"outbox": len(FINAL) + len(OPEN), "inbox": len(FINAL)}
    kept = {f"young-{state}" for state in FINAL} | {f"old-{state}" for state in OPEN}
    assert await shard.left("outbox") == kept
    assert await shard.left("inbox") == kept
    assert await shard.connection.fetchval("SELECT count(*) FROM orders") == 2 * len(FINAL) + len(OPEN)
    assert await shard.walk() == {"outbox": 0, "inbox": 0}


@pytest.mark.parametrize("column", ["accepted_at", "settled_at", "provider_status_at"])
async def test_a_message_settled_lately_stays_however_old_it_is(shard: Rows, column: str) -> None:
    await shard.add("resolved", days=40, states=("accepted",))
    await shard.connection.execute(f"UPDATE outbox SET {column} = now() - interval '1 day'")
    assert (await shard.walk())["outbox"] == 0


async def test_the_notes_of_a_message_go_with_it(shard: Rows) -> None:
    await shard.add("old", days=31, states=("accepted",))
    await shard.add("young", days=29, states=("accepted",))
    await shard.connection.execute(
        "INSERT INTO effect_note (slot, effect_id, what, detail, actor) "
        "SELECT slot, effect_id, 'retry', '429', 'pipeline' FROM outbox, generate_series(1, 3)"
    )
    await shard.walk()
    left = await shard.connection.fetch(
        "SELECT DISTINCT order_id FROM effect_note JOIN outbox USING (effect_id)"
    )
    assert [row["order_id"] for row in left] == ["young"]
    assert await shard.connection.fetchval("SELECT count(*) FROM effect_note") == 3


async def test_counts_of_days_gone_by_go_and_those_of_a_moving_slot_stay(shard: Rows) -> None:
    strange = next(slot for slot in range(SLOT_COUNT) if slot not in set(shard.owned))
    for slot in (shard.owned[0], strange):
        await shard.connection.execute(
            "INSERT INTO recipient_day SELECT $1, gen_random_uuid(), (now() AT TIME ZONE 'UTC')::date - n, 1 "
            "FROM generate_series(0, 5) AS n",
            slot,
        )
    await shard.connection.execute(
        "INSERT INTO sms_spend (recorded_at, country, segments) "
        "SELECT now() - n * interval '12 hours', '49', 1 FROM generate_series(0, 7) AS n"
    )
    assert await Counts(shard.node, KEEP).delete_old(SystemClock()) == 3 + 4
    left = await shard.connection.fetch("SELECT slot, count(*) FROM recipient_day GROUP BY slot")
    assert {row["slot"]: row["count"] for row in left} == {shard.owned[0]: 3, strange: 6}
    assert await shard.connection.fetchval("SELECT count(*) FROM sms_spend") == 4


async def test_the_events_of_an_order_stay_while_its_late_invoice_is_not_mailed(shard: Rows) -> None:
    await shard.add("late", days=90, states=("accepted",))
    await shard.connection.execute(
        "INSERT INTO invoices (slot, order_id, invoice_id, currency, total, issued_at, media_type, document, "
        "event_source, event_id, recorded_at) VALUES ($1, 'late', 'i', 'EUR', 1, now(), 'application/pdf', "
        "'x', '/tests', 'i', now() - interval '80 days')",
        shard.owned[0],
    )
    await shard.connection.execute(
        "INSERT INTO inbox VALUES ($1, event_key_of('/tests', 'i'), gen_random_uuid(), "
        "now() - interval '80 days')",
        shard.owned[0],
    )
    await shard.connection.execute(
        "INSERT INTO outbox (slot, effect_id, order_id, invoice_id, channel, kind, expires_at) VALUES "
        "($1, effect_id_of('late i', 3), 'late', 'i', 'email', 'invoice_email', now() + interval '1 day')",
        shard.owned[0],
    )
    assert await shard.walk() == {"outbox": 1, "inbox": 0}
    await shard.connection.execute("UPDATE outbox SET state = 'suppressed'")
    assert await shard.walk() == {"outbox": 0, "inbox": 2}


@pytest.mark.parametrize("state", ["leaving", "arriving", None])
async def test_rows_of_a_slot_that_is_moving_or_gone_are_left_alone(shard: Rows, state: str | None) -> None:
    foreign = next(slot for slot in range(SLOT_COUNT) if slot not in set(shard.owned))
    if state:
        await shard.connection.execute("INSERT INTO shard_slot VALUES ($1, 1, $2)", foreign, state)
    try:
        await shard.add("moving", days=31, states=("accepted",), slot=foreign)
        await shard.add("here", days=31, states=("accepted",))
        days = "SELECT slot, gen_random_uuid(), '2026-01-01', 1 FROM unnest($1::smallint[]) AS t(slot)"
        await shard.connection.execute(f"INSERT INTO recipient_day {days}", [foreign, shard.owned[0]])
        assert await shard.walk() == {"outbox": 1, "inbox": 1}
        assert await shard.left("outbox") == await shard.left("inbox") == {"moving"}
        assert await Counts(shard.node, KEEP).delete_old(SystemClock()) == 1
        assert await shard.connection.fetchval("SELECT slot FROM recipient_day") == foreign
    finally:
        await shard.connection.execute("DELETE FROM shard_slot WHERE slot = $1", foreign)


async def test_a_step_waits_for_who_changes_the_slots(shard: Rows) -> None:
    from pipeline.storage.fence import FencedTransaction  # noqa: PLC0415  # as the mover does

    await shard.add("moving", days=31, states=("accepted",))
    async with shard.node.connection() as mover, FencedTransaction(mover, alone=True) as transaction:
        walking = asyncio.create_task(shard.walk())
        await mover.execute("UPDATE shard_slot SET state = 'leaving' WHERE slot = $1", shard.owned[0])
        await transaction.commit()
    try:
        assert await walking == {"outbox": 0, "inbox": 0}
    finally:
        await shard.connection.execute("UPDATE shard_slot SET state = 'owned'")


async def test_a_walk_is_shared_and_goes_on_where_it_stood(shard: Rows) -> None:
    for number in range(600):
        await shard.add(f"o{number}", days=31, states=("accepted",))
    tables = [TableRetention(shard.node, "outbox", KEEP) for _ in range(3)]
    first = await tables[0].step()
    assert first is not None
    assert not first.is_last
    deleted = first.deleted
    # The first one is killed here; the other two take turns, and no page is looked at twice.
    steps = 1
    while (step := await tables[1 + steps % 2].step()) is not None:
        steps, deleted = steps + 1, deleted + step.deleted
    pages = await shard.connection.fetchval("SELECT pg_relation_size('outbox') / 8192")
    assert steps == -(-pages // KEEP.step_pages)
    assert deleted == 600
    due = await shard.connection.fetchval(
        "SELECT due_at - now() FROM retention_walk WHERE table_name = 'outbox'"
    )
    assert timedelta(minutes=59) < due <= timedelta(hours=1)


async def test_one_step_at_a_time_whoever_takes_it(shard: Rows) -> None:
    await shard.add("old", days=31, states=("accepted",))
    async with shard.connection.transaction():
        await shard.connection.execute("INSERT INTO retention_walk (table_name) VALUES ('inbox'), ('outbox')")
    async with shard.connection.transaction():
        await shard.connection.execute("SELECT FROM retention_walk FOR UPDATE")
        assert await TableRetention(shard.node, "outbox", KEEP).step() is None
    assert await TableRetention(shard.node, "outbox", KEEP).step() == (1, True)


async def test_the_service_walks_by_itself_and_ends(shard: Rows, bench: Bench) -> None:
    await shard.add("old", days=31, states=("accepted",))
    crashes: list[Any] = []
    tasks = Tasks(lambda *crash: crashes.append(crash))
    service = Retention(bench.cluster, KEEP, clock=SystemClock(), tasks=tasks)
    await service.start()
    await bench.until(lambda: _empty(shard), "old rows deleted")
    await service.drain()
    await service.stop()
    assert crashes == []
    assert "0 running" in repr(tasks)


async def _empty(shard: Rows) -> bool:
    return not await shard.left("outbox") and not await shard.left("inbox")


async def test_with_keep_days_zero_only_counts_are_ever_deleted(shard: Rows, bench: Bench) -> None:
    await shard.add("old", days=4000, states=("accepted",))
    await shard.connection.execute(
        "INSERT INTO sms_spend (recorded_at, country, segments) VALUES ('-infinity', '49', 1)"
    )
    tasks = Tasks(lambda *_crash: None)
    never = RetentionSettings(keep_days=0)
    service = Retention(bench.cluster, never, clock=SystemClock(), tasks=tasks)
    await service.start()
    assert f"{len(bench.stack.shards)} running" in repr(tasks)

    async def counts_are_gone() -> bool:
        return not await shard.connection.fetchval("SELECT count(*) FROM sms_spend")

    await bench.until(counts_are_gone, "old counts deleted")
    assert await shard.left("outbox") == await shard.left("inbox") == {"old"}
    await service.stop()


async def test_files_stop_growing(shard: Rows) -> None:
    """Sixteen days of 10,000 events, of which three are kept: files hold a few days' worth, not sixteen.

    A few, not four: what a delete leaves can be used again once the replica has said that it needs it no
    more, once a second, and a day takes less here.
    """
    sizes = []
    for day in range(16):
        age = 40 - day  # of what comes on this day, in days before now
        await shard.connection.execute(
            "INSERT INTO inbox SELECT ($1::smallint[])[1 + n % 2000], gen_random_uuid(), gen_random_uuid(), "
            "now() - $2::integer * interval '1 day' + interval '1 hour' FROM generate_series(1, 10000) n",
            shard.owned,
            age,
        )
        table = TableRetention(shard.node, "inbox", RetentionSettings(keep_days=age + 2, pause_ms=0))
        assert [rows async for rows in table.delete_all()]
        await table.vacuum()
        sizes.append((await table.survey()).file_bytes)
        assert await shard.connection.fetchval("SELECT count(*) FROM inbox") == 10_000 * min(day + 1, 3)
    assert sizes[3] > 3 * sizes[0]
    assert sizes[-1] < 0.6 * 16 * sizes[0], sizes


# --- the command and the settings ------------------------------------------------------------------------


async def test_the_command_shows_rows_and_bytes_and_a_dry_run_deletes_nothing(
    shard: Rows, settings_file: Path, bench: Bench
) -> None:
    for number in range(300):
        await shard.add(f"o{number}", days=31 if number % 3 else 1, states=("accepted", "delivered"))

    def run(*arguments: str) -> dict[str, Any]:
        done = postorder("retention", "run", *arguments, "--json", "--config", str(settings_file))
        assert done.returncode == 0, done.stderr
        effects = json.loads(done.stdout)
        return {one["table"]: one for one in effects if one["shard"] == "shard0"}

    planned = await asyncio.to_thread(run, "--dry-run")
    assert planned["outbox"]["deleted"] == 400
    assert planned["inbox"]["deleted"] == 200
    assert planned["inbox"]["after"] is None
    assert len(await shard.left("inbox")) == 300
    done = await asyncio.to_thread(run)
    for name, count in (("outbox", 400), ("inbox", 200)):
        before, after = done[name]["before"], done[name]["after"]
        assert done[name]["deleted"] == count == before["old_rows"] == before["rows"] - after["rows"]
        assert after["old_rows"] == after["old_bytes"] == 0
        assert before["row_bytes"] - after["row_bytes"] == before["old_bytes"] > 0
    shown = await asyncio.to_thread(postorder, "retention", "run", "--config", str(settings_file))
    assert shown.returncode == 0
    assert "file MB" in shown.stdout
    [*_, first, _] = await AuditLog(bench.cluster, SystemClock()).entries(4, what="retention.run")
    assert (await last_done(bench.cluster, "retention.run")).detail == "0 rows"
    assert first.detail == "600 rows"


def test_keeping_less_than_the_dedupe_window_is_refused(settings_file: Path) -> None:
    with pytest.raises(SettingsError, match=r"retention.keep_days: must be 0, or no less than"):
        load_settings(settings_file, {"POSTORDER_RETENTION_KEEP_DAYS": "6"})
    assert load_settings(settings_file, {"POSTORDER_RETENTION_KEEP_DAYS": "7"}).retention.keep_days == 7
    assert load_settings(settings_file, {"POSTORDER_RETENTION_KEEP_DAYS": "0"}).retention.keep_days == 0
    refused = postorder("retention", "run", "--config", str(settings_file), POSTORDER_RETENTION_KEEP_DAYS="0")
    assert refused.returncode == 2
    assert "rows are kept for ever" in refused.stderr


# --- together with the rest ---------------------------------------------------------------------------------


async def test_the_key_in_sql_is_the_one_that_intake_writes(
    shard: Rows, bench: Bench, run_pipeline: Any
) -> None:
    with run_pipeline():
        await bench.publish(order_event("o-1"), invoice_event("o-1"), {**order_event("o-2"), "id": "é-1"})
        await bench.until_quiet(3)
    events = "SELECT event_source, event_id FROM orders UNION ALL SELECT event_source, event_id FROM invoices"
    assert await bench.rows(f"SELECT FROM ({events}) e") == [{}] * 3
    assert (
        await bench.rows(
            f"SELECT FROM ({events}) e JOIN inbox ON event_key = event_key_of(event_source, event_id)"
        )
        == [{}] * 3
    )
