"""Applies migrations to a shard, each once, in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from pipeline.errors import MigrationError
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.migration_files import Migration
from pipeline.storage.node import translated
from pipeline.storage.schema_version import moves_in_progress, refuse_while_moving
from pipeline.storage.shard import Shard

MIGRATION_LOCK = 0x706F_7374
"""Advisory lock of a shard: held alone by its migrator, shared by who must not see the schema change."""

LOCK_WAIT_S = 30.0
_POLL_S = 0.2
_STATEMENT_TIMEOUT_S = 3600.0  # an index on a large table takes its time
_TABLE_WAIT = "SET lock_timeout = '3s'"  # whoever waits for a table makes everybody behind it wait
_ANY_WAIT = "SET lock_timeout = 0"
_LOCK_NOT_AVAILABLE = "55P03"
_LOCK_HOLDER = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = $1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_RECORD = """
CREATE TABLE IF NOT EXISTS migration (
    number     smallint NOT NULL,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_migration PRIMARY KEY (number)
)"""


async def migrate(
    shard: Shard,
    migrations: Sequence[Migration],
    shard_map: ShardMap,
    lock_wait_s: float = LOCK_WAIT_S,
) -> list[str]:
    """Bring a shard up to date and, if it has no map yet, give it this one and what it owns by it.

    Returns the names of the migrations applied now. Each runs in a transaction of its own with its record,
    so a failure leaves the ones before it in place, and the next run goes on from there. Raises
    MigrationError when one fails, one that was applied has been changed since, slots are moving, or another
    migration of this shard does not end within `lock_wait_s`.
    """
    applied_now = []
    async with _session(shard) as connection, _locked(connection, shard.name, lock_wait_s):
        await connection.execute(_RECORD)
        applied = await _applied(connection)
        for migration in migrations:
            if migration.number not in applied:
                refuse_while_moving(shard.name, await moves_in_progress(shard))
                await _apply(connection, shard.name, migration)
                applied_now.append(migration.name)
            elif applied[migration.number] != migration.checksum:
                raise MigrationError(f"{shard.name}: {migration.name} was changed after it was applied")
        await _claim_slots(connection, shard.name, shard_map)
    return applied_now


@asynccontextmanager
async def _session(shard: Shard) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection of the migrator's own: what it locks must not go back to the pool with it."""
    connection = await shard.primary.dedicated_connection()
    try:
        with translated(f"{shard.primary.name} at {shard.primary.address}"):
            yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def _locked(connection: asyncpg.Connection, name: str, wait_s: float) -> AsyncIterator[None]:
    """Hold the shard's migration lock.

    Asks again and again: a statement that waits would hold a snapshot, and CREATE INDEX CONCURRENTLY in the
    migration waited for would wait for that.
    """
    deadline = time.monotonic() + wait_s
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", MIGRATION_LOCK):
        if time.monotonic() >= deadline:
            holder = await connection.fetchval(_LOCK_HOLDER, MIGRATION_LOCK)
            raise MigrationError(
                f"{name}: another migration or a move of slots has run for {wait_s:g} s and more "
                f"(server process {holder}): try again when it is over"
            )
        await asyncio.sleep(_POLL_S)
    try:
        yield
    finally:
        if not connection.is_closed():  # otherwise the lock is gone with the connection
            await connection.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)


async def _applied(connection: asyncpg.Connection) -> dict[int, str]:
    rows = await connection.fetch("SELECT number, checksum FROM migration")
    return {row["number"]: row["checksum"] for row in rows}


async def _apply(connection: asyncpg.Connection, shard: str, migration: Migration) -> None:
    try:
        if migration.outside_statements is not None:
            for statement in migration.outside_statements:
                # One that builds concurrently waits for transactions, and nobody waits for it meanwhile.
                wait = _ANY_WAIT if "CONCURRENTLY" in statement else _TABLE_WAIT
                await connection.execute(wait)
                await connection.execute(statement, timeout=_STATEMENT_TIMEOUT_S)
            await _record(connection, migration)
            return
        async with connection.transaction():
            await connection.execute(_TABLE_WAIT)
            await connection.execute(migration.sql, timeout=_STATEMENT_TIMEOUT_S)
            await _record(connection, migration)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{shard}: {migration.name} stopped: {_reason(error)}: run again") from error


def _reason(error: asyncpg.PostgresError) -> str:
    """Return what went wrong, in the server's words only where they speak of names: others may quote data."""
    if error.sqlstate == _LOCK_NOT_AVAILABLE:
        return "a table is in use"
    what = f"{type(error).__name__} ({error.sqlstate})"
    return f"{what}, {str(error).splitlines()[0]}" if (error.sqlstate or "").startswith("42") else what


async def _record(connection: asyncpg.Connection, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)",
        migration.number,
        migration.name,
        migration.checksum,
    )


async def _claim_slots(connection: asyncpg.Connection, name: str, shard_map: ShardMap) -> None:
    """Record the map, and what it gives this shard. Only where there is none yet: later changes are moves."""
    async with connection.transaction():
        written = await connection.fetchval(
            "INSERT INTO shard_map (shard, epoch, owners) VALUES ($1, $2, $3) "
            "ON CONFLICT DO NOTHING RETURNING 1",
            name,
            shard_map.epoch,
            msgspec.json.encode(shard_map.owners).decode(),
        )
        if written:
            await connection.execute(
                "INSERT INTO shard_slot (slot, epoch) SELECT unnest($1::smallint[]), $2 "
                "ON CONFLICT DO NOTHING",
                shard_map.slots_of(name),
                shard_map.epoch,
            )
