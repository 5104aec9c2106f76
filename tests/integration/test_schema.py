"""The .dbs model and the migrated tables are equal, and a difference of any kind is found."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from real_stack import Bench
from schema_model import ddl, differences, facts, read_dbs

from pipeline.errors import MigrationError
from pipeline.storage.migration_files import MIGRATIONS, read_migrations
from pipeline.storage.migrator import migrate

pytestmark = pytest.mark.integration

DBS = Path(__file__).parents[2] / "schema/orders.dbs"


@pytest.fixture
async def connection(bench: Bench) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(bench.stack.shards[0].primary_dsn, timeout=5)
    await opened.execute("DROP SCHEMA IF EXISTS modelled CASCADE")
    try:
        yield opened
    finally:
        await opened.execute("DROP SCHEMA IF EXISTS modelled CASCADE")
        await opened.close()


async def make_modelled(connection: asyncpg.Connection) -> None:
    for statement in ddl(read_dbs(DBS), "modelled"):
        await connection.execute(statement)


async def test_the_model_and_the_migrated_tables_are_equal(connection: asyncpg.Connection) -> None:
    await make_modelled(connection)
    migrated = await facts(connection, "public")
    assert differences(await facts(connection, "modelled"), migrated) == []
    assert sum(name.startswith("table ") for name in migrated) == 23


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("ALTER TABLE orders DROP COLUMN country", "column orders.country"),
        ("ALTER TABLE orders ADD COLUMN extra text", "column orders.extra"),
        ("ALTER TABLE orders ALTER COLUMN total TYPE numeric(12, 2)", "column orders.total"),
        ("ALTER TABLE orders ALTER COLUMN currency DROP NOT NULL", "column orders.currency"),
        ("ALTER TABLE outbox ALTER COLUMN attempts SET DEFAULT 1", "column outbox.attempts"),
        ("ALTER TABLE intake_batch ALTER COLUMN batch_id DROP IDENTITY", "column intake_batch.batch_id"),
        ("DROP INDEX idx_outbox_due", "index idx_outbox_due"),
        (
            "DROP INDEX idx_outbox_due; CREATE INDEX idx_outbox_due ON outbox (channel, due_at)",
            "index idx_outbox_due",
        ),
        ("ALTER TABLE outbox DROP CONSTRAINT cns_outbox_kind", "check outbox.cns_outbox_kind"),
        ("ALTER TABLE inbox DROP CONSTRAINT pk_inbox", "index pk_inbox"),
        ("DROP TABLE quarantine", "table quarantine"),
        ("CREATE TABLE more (n integer)", "table more"),
        ("COMMENT ON TABLE inbox IS 'something else'", "table inbox"),
        ("COMMENT ON COLUMN inbox.event_key IS NULL", "column inbox.event_key"),
        ("ALTER TABLE outbox RESET (fillfactor)", "table outbox"),
        ("ALTER TABLE process_report SET LOGGED", "table process_report"),
        ("DROP FUNCTION slot_of", "function slot_of(key text)"),
    ],
)
async def test_a_difference_is_found_and_named(
    connection: asyncpg.Connection, change: str, what: str
) -> None:
    await make_modelled(connection)
    await connection.execute(change)
    found = differences(await facts(connection, "modelled"), await facts(connection, "public"))
    assert any(line.startswith(f"{what}:") for line in found), found


async def test_migrating_again_changes_nothing_and_two_at_once_do_it_once(bench: Bench) -> None:
    shard = next(iter(bench.cluster))
    migrations = read_migrations(MIGRATIONS)
    runs = [migrate(shard, migrations, bench.cluster.shard_map) for _ in range(3)]
    assert await asyncio.gather(*runs) == [[], [], []]


async def test_a_changed_migration_is_refused(bench: Bench, tmp_path: Path) -> None:
    shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    first = next((tmp_path / "migrations").glob("0001*.sql"))
    first.write_text(first.read_text() + "\n-- changed\n")
    shard = next(iter(bench.cluster))
    with pytest.raises(MigrationError, match=r"0001_expand_initial was changed after it was applied"):
        await migrate(shard, read_migrations(tmp_path / "migrations"), bench.cluster.shard_map)


async def test_a_failing_migration_leaves_no_trace_and_the_next_run_resumes(
    bench: Bench, tmp_path: Path
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    number = len(list(folder.glob("*.sql"))) + 1
    new = folder / f"{number:04d}_expand_probe.sql"
    new.write_text("CREATE TABLE probe (n integer); SELECT 1 / 0;")
    shard = next(iter(bench.cluster))
    with pytest.raises(
        MigrationError, match=rf"{new.stem} stopped: DivisionByZeroError \(22012\): run again"
    ):
        await migrate(shard, read_migrations(folder), bench.cluster.shard_map)
    new.write_text("CREATE TABLE probe (n integer);")
    try:
        assert await migrate(shard, read_migrations(folder), bench.cluster.shard_map) == [new.stem]
    finally:
        await bench.execute("DROP TABLE IF EXISTS probe")
        await bench.execute(f"DELETE FROM migration WHERE number = {number}")
