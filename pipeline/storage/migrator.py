"""Applies migrations/NNNN_{expand|contract}_what.sql to a shard, each once, in order."""

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
from asyncpg.pool import PoolConnectionProxy

from pipeline.errors import MigrationError
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.shard import Shard

_FILE_NAME = re.compile(r"(?P<number>\d{4})_(?P<phase>expand|contract)_(?P<what>[a-z0-9_]+)\.sql")
_LOCK = 0x706F_7374  # any fixed number: one migrator at a time on a shard
_RECORD = """
CREATE TABLE IF NOT EXISTS migration (
    number     smallint NOT NULL,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_migration PRIMARY KEY (number)
)"""
_TIMEOUT_S = 300.0


class Migration(msgspec.Struct, frozen=True):
    """One file. `checksum` is SHA-256 of its bytes in hexadecimal."""

    number: int
    name: str
    sql: str
    checksum: str


def read_migrations(folder: Path) -> list[Migration]:
    """Return the migrations of a folder in order. Raises MigrationError for a bad name or a gap."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if not match:
            raise MigrationError(
                f"{path.name}: not of the form NNNN_expand_what.sql or NNNN_contract_what.sql"
            )
        text = path.read_text(encoding="utf-8")
        migrations.append(Migration(int(match["number"]), path.stem, text, sha256(text.encode()).hexdigest()))
    if not migrations:
        raise MigrationError(f"no migrations in {folder}")
    for expected, migration in enumerate(migrations, start=1):
        if migration.number != expected:
            raise MigrationError(f"{migration.name}: expected number {expected:04d}")
    return migrations


async def migrate(shard: Shard, migrations: Sequence[Migration], shard_map: ShardMap) -> list[str]:
    """Bring a shard up to date and, if it owns nothing yet, give it its slots.

    Returns the names of the migrations applied now. Each runs in a transaction of its own with its record,
    so a failure leaves the ones before it in place. Raises MigrationError when a migration that was applied
    has been changed since.
    """
    applied_now = []
    async with shard.primary.connection() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=_TIMEOUT_S)
        try:
            await connection.execute(_RECORD)
            applied = await _applied(connection)
            for migration in migrations:
                if migration.number not in applied:
                    await _apply(connection, migration)
                    applied_now.append(migration.name)
                elif applied[migration.number] != migration.checksum:
                    raise MigrationError(f"{shard.name}: {migration.name} was changed after it was applied")
            await _claim_slots(connection, shard.name, shard_map)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
    return applied_now


async def _applied(connection: PoolConnectionProxy) -> dict[int, str]:
    rows = await connection.fetch("SELECT number, checksum FROM migration")
    return {row["number"]: row["checksum"] for row in rows}


async def _apply(connection: PoolConnectionProxy, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql, timeout=_TIMEOUT_S)
        await connection.execute(
            "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )


async def _claim_slots(connection: PoolConnectionProxy, name: str, shard_map: ShardMap) -> None:
    """Record the first owner of each slot. Only on an empty table: later changes are moves."""
    await connection.execute(
        "INSERT INTO shard_slot (slot, epoch) SELECT unnest($1::smallint[]), $2 "
        "WHERE NOT EXISTS (SELECT FROM shard_slot)",
        shard_map.slots_of(name),
        shard_map.epoch,
    )
