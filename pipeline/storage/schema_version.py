"""Which migrations each shard has, and whether that fits this program and the other shards."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from pipeline.errors import MigrationError, SchemaVersionError
from pipeline.storage.migration_files import Migration, is_contract, read_migrations
from pipeline.storage.node import Node
from pipeline.storage.shard import Shard

_IN_PROGRESS = ("running", "aborting", "moved")  # "moved" too: the shards still replicate to each other


class Applied(msgspec.Struct, frozen=True):
    """A row of a shard's `migration` table."""

    number: int
    name: str
    checksum: str
    applied_at: datetime


class SchemaState(msgspec.Struct, frozen=True, kw_only=True):
    """A shard's migrations beside the files. All but `applied` are names.

    pending: not applied yet. changed: applied, but the file is another one now. newer: applied, and not among
    the files, because a newer program brought them. moves: moves of slots in progress, as `source to target`.
    """

    shard: str
    applied: tuple[Applied, ...]
    pending: tuple[str, ...]
    changed: tuple[str, ...]
    newer: tuple[str, ...]
    moves: tuple[str, ...]

    @property
    def number(self) -> int:
        """The number of the last migration applied; 0 for none."""
        return max((row.number for row in self.applied), default=0)


async def schema_state(shard: Shard, migrations: Sequence[Migration]) -> SchemaState:
    """Read a shard's state; changes nothing. Raises MigrationError when its "primary" is a replica."""
    applied = await _applied(shard.primary, shard.name)
    found = {row.number: row for row in applied}
    last = migrations[-1].number
    return SchemaState(
        shard=shard.name,
        applied=applied,
        pending=tuple(m.name for m in migrations if m.number not in found),
        changed=tuple(
            m.name for m in migrations if m.number in found and found[m.number].checksum != m.checksum
        ),
        newer=tuple(row.name for row in applied if row.number > last),
        moves=await moves_in_progress(shard),
    )


async def schema_states(shards: Iterable[Shard], migrations: Sequence[Migration]) -> list[SchemaState]:
    """Read the state of every shard, all at once. The primaries must be open."""
    return await asyncio.gather(*(schema_state(shard, migrations) for shard in shards))


async def schema_versions(shards: Iterable[Shard], migrations: Sequence[Migration] = ()) -> dict[str, int]:
    """Return each shard's schema version, once all are level and this program can work with it.

    Anything but a migration asks this before it begins. `migrations` are those that ship with the program,
    unless given. Raises SchemaVersionError, naming the shard and both numbers: a shard is behind, shards
    differ, an applied migration was changed since, or a newer program took away something.
    """
    migrations = migrations or read_migrations()
    states = await schema_states(shards, migrations)
    last = migrations[-1].number
    for state in states:
        if state.pending:
            raise SchemaVersionError(
                f"{state.shard} is at schema {state.number:04d}, this program needs {last:04d}: "
                "run `postorder migrate`"
            )
        if state.number != states[0].number:
            raise SchemaVersionError(
                f"{state.shard} is at schema {state.number:04d}, {states[0].shard} at "
                f"{states[0].number:04d}: run `postorder migrate` of the newest program"
            )
        if state.changed:
            raise SchemaVersionError(f"{state.shard}: {state.changed[0]} was changed after it was applied")
        contracts = [name for name in state.newer if is_contract(name)]
        if contracts:
            raise SchemaVersionError(
                f"{state.shard} is at schema {state.number:04d} with {contracts[0]}, this program knows "
                f"{last:04d}: run the newer program"
            )
    return {state.shard: state.number for state in states}


async def moves_in_progress(shard: Shard) -> tuple[str, ...]:
    """Return the moves of slots that a shard takes part in and that are not over, a line for each."""
    async with shard.primary.connection() as connection:
        if not await connection.fetchval("SELECT to_regclass('slot_move') IS NOT NULL"):
            return ()
        rows = await connection.fetch(
            "SELECT move_id, source, target, state FROM slot_move WHERE state = ANY ($1) ORDER BY started_at",
            _IN_PROGRESS,
        )
    return tuple(f"{row['move_id']} from {row['source']} to {row['target']} ({row['state']})" for row in rows)


def refuse_while_moving(shard: str, moves: Sequence[str]) -> None:
    """Raise MigrationError, naming the move, if slots come to a shard or leave it."""
    if moves:
        raise MigrationError(
            f"{shard}: slots are moving: {moves[0]}: let it finish, or abort it (`postorder shards status`)"
        )


async def _applied(primary: Node, name: str) -> tuple[Applied, ...]:
    async with primary.connection() as connection:
        server = await connection.fetchrow(
            "SELECT pg_is_in_recovery() AS is_replica, to_regclass('migration') IS NOT NULL AS has_table"
        )
        if server["is_replica"]:
            raise MigrationError(
                f"{primary.name} at {primary.address} is a replica: correct shards.{name}.primary in the "
                "settings"
            )
        if not server["has_table"]:
            return ()
        rows = await connection.fetch(
            "SELECT number, name, checksum, applied_at FROM migration ORDER BY number"
        )
    return tuple(Applied(row["number"], row["name"], row["checksum"], row["applied_at"]) for row in rows)
