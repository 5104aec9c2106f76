"""`postorder migrate` over several shards: level or refused, one at a time, going on after a failure."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from commands import postorder
from spare_database import elsewhere, spare_databases

from consumers.migration import migrate_all, planned, read_states
from pipeline.errors import MigrationError, PostorderError, SchemaVersionError
from pipeline.settings import Settings
from pipeline.storage import migrator
from pipeline.storage.cluster import Cluster
from pipeline.storage.migration_files import MIGRATIONS, read_migrations
from pipeline.storage.schema_version import schema_versions
from stack.status import StackStatus

pytestmark = pytest.mark.integration

DATABASE = "migrate_test"
LAST = len(list(MIGRATIONS.glob("*.sql")))
NEXT = LAST + 1


@pytest.fixture
async def fresh(stack: StackStatus, stack_folder: Path, settings: Settings) -> AsyncIterator[Settings]:
    """Settings whose shards are new, empty databases beside the stack's own."""
    shards = tuple(
        msgspec.structs.replace(shard, primary=elsewhere(shard.primary, DATABASE), replica="")
        for shard in settings.shards
    )
    async with spare_databases(stack.shards, stack_folder, DATABASE):
        yield msgspec.structs.replace(settings, shards=shards)


class Database:
    """One shard's new database, for a test to look into and to change."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.execute = connection.execute
        self.value = connection.fetchval
        self.close = connection.close

    async def relations(self) -> int:
        return await self.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")

    async def numbers(self) -> list[int]:
        rows = await self._connection.fetch("SELECT number FROM migration ORDER BY number")
        return [row["number"] for row in rows]


@pytest.fixture
async def shards(stack: StackStatus, fresh: Settings) -> AsyncIterator[list[Database]]:
    opened = [
        Database(await asyncpg.connect(elsewhere(shard.primary_dsn, DATABASE), timeout=5))
        for shard in stack.shards
    ]
    yield opened
    for shard in opened:
        await shard.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations, to add to."""
    return shutil.copytree(MIGRATIONS, tmp_path / "migrations")


async def versions(settings: Settings, folder: Path = MIGRATIONS) -> dict[str, int]:
    cluster = Cluster(settings)
    try:
        for shard in cluster:
            await shard.primary.open()
        return await schema_versions(cluster, read_migrations(folder))
    finally:
        await cluster.close()


# --- level -------------------------------------------------------------------------------------------


async def test_all_shards_are_brought_level_and_again_is_nothing(fresh: Settings) -> None:
    reported: list[str] = []
    lines = await migrate_all(fresh, reported.append)
    assert lines == reported
    assert lines[0].startswith("shard0: 0001_expand_initial, ")
    assert await versions(fresh) == {"shard0": LAST, "shard1": LAST}
    assert await migrate_all(fresh) == ["shard0: up to date", "shard1: up to date"]
    for state in await read_states(fresh):
        assert (state.number, state.pending, state.changed, state.newer, state.moves) == (
            LAST,
            (),
            (),
            (),
            (),
        )


async def test_a_dry_run_says_what_would_run_and_changes_nothing(
    fresh: Settings, shards: list[Database], folder: Path
) -> None:
    assert (await planned(fresh))[1].startswith("shard1: would apply 0001_expand_initial, 0002_")
    assert [await shard.relations() for shard in shards] == [0, 0]
    await migrate_all(fresh)
    (folder / f"{NEXT:04d}_expand_probe.sql").write_text("CREATE TABLE probe (n integer);")
    assert await planned(fresh) == ["shard0: up to date", "shard1: up to date"]
    before = [await shard.relations() for shard in shards]
    assert await planned(fresh, folder) == [
        f"{name}: would apply {NEXT:04d}_expand_probe" for name in ("shard0", "shard1")
    ]
    assert [await shard.relations() for shard in shards] == before


# --- failing, and going on ------------------------------------------------------------------------------


async def test_it_stops_at_the_first_failure_and_the_next_run_goes_on_there(
    fresh: Settings, shards: list[Database], folder: Path
) -> None:
    await migrate_all(fresh)
    (folder / f"{NEXT:04d}_expand_probe.sql").write_text("CREATE TABLE probe (n integer);")
    (folder / f"{NEXT + 1:04d}_expand_more.sql").write_text("CREATE TABLE more (n integer);")
    await shards[0].execute("CREATE TABLE more (n integer)")
    reported: list[str] = []
    with pytest.raises(MigrationError, match=rf'shard0: {NEXT + 1:04d}_expand_more .*"more" already exists'):
        await migrate_all(fresh, reported.append, folder=folder)
    assert reported == []
    # The first of the two is kept, the second left nothing, and no later shard was begun.
    assert [(await shard.numbers())[-1] for shard in shards] == [NEXT, LAST]
    with pytest.raises(SchemaVersionError, match=rf"shard0 is at schema {NEXT:04d}, .* needs {NEXT + 1:04d}"):
        await versions(fresh, folder)
    with pytest.raises(SchemaVersionError, match=rf"shard1 is at schema {LAST:04d}, shard0 at {NEXT:04d}"):
        await versions(fresh)
    await shards[0].execute("DROP TABLE more")
    assert await migrate_all(fresh, folder=folder) == [
        f"shard0: {NEXT + 1:04d}_expand_more",
        f"shard1: {NEXT:04d}_expand_probe, {NEXT + 1:04d}_expand_more",
    ]
    assert await versions(fresh, folder) == {"shard0": NEXT + 1, "shard1": NEXT + 1}


async def test_outside_a_transaction_a_failure_half_way_is_mended_by_the_next_run(
    fresh: Settings, shards: list[Database], folder: Path
) -> None:
    new = folder / f"{NEXT:04d}_expand_index.sql"
    new.write_text(
        "-- outside a transaction\n"
        "CREATE TABLE IF NOT EXISTS probe (n integer);\n"
        "DROP INDEX CONCURRENTLY IF EXISTS idx_probe;\n"
        "CREATE UNIQUE INDEX CONCURRENTLY idx_probe ON probe (n);\n"
    )
    await migrate_all(fresh)
    await shards[0].execute("CREATE TABLE probe (n integer); INSERT INTO probe VALUES (1), (1)")
    with pytest.raises(MigrationError, match=r"shard0: .* UniqueViolationError \(23505\): run again"):
        await migrate_all(fresh, folder=folder)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('idx_probe')"
    assert await shards[0].value(valid) is False
    await shards[0].execute("TRUNCATE probe")
    await migrate_all(fresh, folder=folder)
    assert [await shard.value(valid) for shard in shards] == [True, True]


@pytest.mark.parametrize("how", ["", "-- outside a transaction\n"])
async def test_a_table_in_use_is_not_waited_for_long(
    fresh: Settings, shards: list[Database], folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    await migrate_all(fresh)
    monkeypatch.setattr(migrator, "_TABLE_WAIT", "SET lock_timeout = '100ms'")
    (folder / f"{NEXT:04d}_expand_probe.sql").write_text(f"{how}ALTER TABLE orders ADD COLUMN probe text;\n")
    await shards[1].execute("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE")
    with pytest.raises(
        MigrationError, match=r"shard1: .*_expand_probe stopped: a table is in use: run again"
    ):
        await migrate_all(fresh, folder=folder)
    await shards[1].execute("COMMIT")
    await migrate_all(fresh, folder=folder)
    assert await versions(fresh, folder) == {"shard0": NEXT, "shard1": NEXT}


# --- one at a time ----------------------------------------------------------------------------------------


async def test_migrators_at_once_build_an_index_concurrently_just_once(
    fresh: Settings, shards: list[Database], folder: Path
) -> None:
    # Whoever waits for the lock inside a statement holds a snapshot, for which the index build waits.
    (folder / f"{NEXT:04d}_expand_index.sql").write_text(
        "-- outside a transaction\nCREATE INDEX CONCURRENTLY idx_probe ON orders (number);\n"
    )
    runs = await asyncio.gather(*(migrate_all(fresh, folder=folder) for _ in range(3)))
    applied = [line for lines in runs for line in lines if f"{NEXT:04d}_expand_index" in line]
    assert len(applied) == len(shards)
    assert [await shard.numbers() for shard in shards] == [list(range(1, NEXT + 1))] * 2


async def test_a_migration_under_way_elsewhere_is_waited_for_and_then_named(
    fresh: Settings, shards: list[Database]
) -> None:
    holder = await shards[1].value("SELECT pg_backend_pid()")
    await shards[1].execute(f"SELECT pg_advisory_lock({migrator.MIGRATION_LOCK})")
    with pytest.raises(MigrationError, match=rf"shard1: another migration .*\(server process {holder}\)"):
        await migrate_all(fresh, lock_wait_s=0.3)
    waiting = asyncio.create_task(migrate_all(fresh, lock_wait_s=20))
    await shards[1].execute(f"SELECT pg_advisory_unlock({migrator.MIGRATION_LOCK})")
    assert (await waiting)[0] == "shard0: up to date"


# --- refused before anything changes ------------------------------------------------------------------------


async def test_a_changed_file_is_refused_before_any_shard_changes(
    fresh: Settings, shards: list[Database], folder: Path
) -> None:
    await migrate_all(fresh)
    await shards[1].execute("UPDATE migration SET checksum = 'another' WHERE number = 2")
    (folder / f"{NEXT:04d}_expand_probe.sql").write_text("CREATE TABLE probe (n integer);")
    for refused in (migrate_all(fresh, folder=folder), planned(fresh, folder)):
        with pytest.raises(MigrationError, match=r"shard1: 0002_expand_invoice_alone was changed after"):
            await refused
    with pytest.raises(SchemaVersionError, match=r"shard1: 0002_expand_invoice_alone was changed after"):
        await versions(fresh)
    assert await shards[0].numbers() == list(range(1, LAST + 1))


async def test_an_older_program_works_beside_what_was_added_but_not_what_was_taken_away(
    fresh: Settings, shards: list[Database], folder: Path
) -> None:
    (folder / f"{NEXT:04d}_expand_probe.sql").write_text("CREATE TABLE probe (n integer);")
    await migrate_all(fresh, folder=folder)
    assert await versions(fresh) == {"shard0": NEXT, "shard1": NEXT}
    with pytest.raises(MigrationError, match=rf"shard0 is at schema {NEXT:04d} \({NEXT:04d}_expand_probe\)"):
        await migrate_all(fresh)
    (folder / f"{NEXT + 1:04d}_contract_probe.sql").write_text("DROP TABLE probe;")
    await migrate_all(fresh, folder=folder)
    with pytest.raises(SchemaVersionError, match=rf"{NEXT + 1:04d}_contract_probe, .* knows {LAST:04d}"):
        await versions(fresh)


@pytest.mark.parametrize("state", ["running", "aborting", "moved"])
async def test_it_refuses_while_slots_move_and_names_the_move(
    fresh: Settings, shards: list[Database], folder: Path, state: str
) -> None:
    await migrate_all(fresh)
    move = uuid4()
    await shards[1].execute(
        "INSERT INTO slot_move (move_id, source, target, slots, step, state) "
        "VALUES ($1, 'shard0', 'shard1', '[7]', 'copy', $2)",
        move,
        state,
    )
    assert await migrate_all(fresh) == ["shard0: up to date", "shard1: up to date"]
    (folder / f"{NEXT:04d}_expand_probe.sql").write_text("CREATE TABLE probe (n integer);")
    for refused in (migrate_all(fresh, folder=folder), planned(fresh, folder)):
        with pytest.raises(MigrationError, match=rf"shard1: slots are moving: {move} from shard0 to shard1"):
            await refused
    assert await shards[0].numbers() == list(range(1, LAST + 1))
    await shards[1].execute("UPDATE slot_move SET state = 'finished'")
    assert len(await migrate_all(fresh, folder=folder)) == 2


async def test_a_move_that_began_after_the_first_look_is_refused_as_well(
    fresh: Settings, shards: list[Database], folder: Path
) -> None:
    await migrate_all(fresh)
    (folder / f"{NEXT:04d}_expand_probe.sql").write_text("CREATE TABLE probe (n integer);")
    await shards[0].execute(f"SELECT pg_advisory_lock({migrator.MIGRATION_LOCK})")
    waiting = asyncio.create_task(migrate_all(fresh, folder=folder))
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%try%lock%'"
    )
    while not await shards[0].value(f"{asked} AND pid <> pg_backend_pid()"):  # noqa: ASYNC110  # a server's
        await asyncio.sleep(0.01)
    await shards[0].execute(
        "INSERT INTO slot_move (move_id, source, target, slots, step) "
        f"VALUES ('{uuid4()}', 'shard1', 'shard0', '[7]', 'copy'); "
        f"SELECT pg_advisory_unlock({migrator.MIGRATION_LOCK})"
    )
    with pytest.raises(
        MigrationError, match=r"shard0: slots are moving: .* from shard1 to shard0 \(running\)"
    ):
        await waiting
    assert await shards[0].numbers() == list(range(1, LAST + 1))


@pytest.mark.parametrize("asking", ["", "?target_session_attrs=any"])
async def test_a_replica_given_as_primary_is_refused(
    fresh: Settings, settings: Settings, shards: list[Database], asking: str
) -> None:
    wrong = msgspec.structs.replace(fresh.shards[1], primary=settings.shards[1].replica + asking)
    with pytest.raises(PostorderError, match=r"shard1 primary.* is a replica"):
        await migrate_all(msgspec.structs.replace(fresh, shards=(fresh.shards[0], wrong)))
    assert await shards[0].relations() == 0


# --- as commands -----------------------------------------------------------------------------------


def test_the_commands(fresh: Settings, settings_file: Path) -> None:
    variables = {f"POSTORDER_SHARD_{s.name.upper()}_PRIMARY": s.primary for s in fresh.shards}

    def migrate(*arguments: str) -> tuple[int, str, str]:
        done = postorder("migrate", *arguments, "--config", str(settings_file), **variables)
        return done.returncode, done.stdout, done.stderr

    status, text, _ = migrate("--dry-run")
    assert status == 0
    assert text.startswith("shard0: would apply 0001_expand_initial, ")
    status, text, _ = migrate("status")
    assert status == 1
    assert "nothing" in text
    status, text, _ = migrate()
    assert status == 0
    assert [line.partition(":")[0] for line in text.splitlines()] == ["shard0", "shard1"]
    status, text, _ = migrate("status", "--json")
    assert status == 0
    found = json.loads(text)
    assert [(one["shard"], one["number"], one["pending"]) for one in found] == [
        ("shard0", LAST, []),
        ("shard1", LAST, []),
    ]
    assert len(found[0]["applied"]) == LAST
    status, text, _ = migrate("status")
    assert status == 0
    assert "0004_expand_retention" in text or LAST > 4
    # The first time it is on record when it is done, for want of a place; then before and after.
    assert migrate()[0] == 0
    read = postorder("audit", "--json", "--config", str(settings_file), **variables)
    entries = [json.loads(line) for line in read.stdout.splitlines()]
    assert [(one["what"], one["outcome"]) for one in entries] == 2 * [
        ("migrate", "done"),
        ("migrate", "begun"),
    ]
    assert entries[0]["detail"] == "shard0: up to date; shard1: up to date"
    assert entries[2]["detail"].startswith("shard0: 0001_expand_initial")
    assert [one["detail"] for one in entries if one["outcome"] == "begun"] == ["", "when it was done"]
