"""Whether two shards hold the same rows of some slots."""

import asyncio
from collections.abc import Sequence

import msgspec
from asyncpg.pool import PoolConnectionProxy

from pipeline.storage.node import Node
from pipeline.storage.replication_link import MOVING_TABLES

_TIMEOUT_S = 600.0
# A row's text depends on these; everywhere else the servers' own may differ.
_PLAIN_TEXT = "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL bytea_output = 'hex'"
# The sum does not depend on the order of rows, and shows a row that is there twice.
_SUMS = " UNION ALL ".join(
    f"SELECT '{table}' AS table_name, slot, count(*) AS rows, "  # noqa: S608  # constants
    f"sum(hashtextextended(t::text, 0)::numeric)::text AS hash_sum FROM {table} t "
    "WHERE slot = ANY ($1::smallint[]) GROUP BY slot"
    for table in MOVING_TABLES
)
_HASHES = """SELECT md5(concat_ws(E'\\x1f', {keys})) AS key, hashtextextended(t::text, 0) AS hash
FROM {table} t WHERE slot = $1"""
_KEYS = """SELECT a.attname FROM pg_index i JOIN pg_attribute a
ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = $1::text::regclass AND i.indisprimary ORDER BY a.attname"""

Sums = dict[tuple[str, int], tuple[int, str]]
"""By table and slot: how many rows, and the sum of their hashes."""


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """What differs, in rows. `where` names tables and slots, as `orders slot 17`."""

    slots: int
    rows: int
    missing: int = 0
    extra: int = 0
    mismatched: int = 0
    where: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether both sides hold the same."""
        return not self.where

    def plus(self, other: "Differences") -> "Differences":
        """Return both together."""
        return Differences(
            slots=self.slots + other.slots,
            rows=self.rows + other.rows,
            missing=self.missing + other.missing,
            extra=self.extra + other.extra,
            mismatched=self.mismatched + other.mismatched,
            where=self.where + other.where,
        )

    def __str__(self) -> str:
        return (
            f"{self.rows} rows of {self.slots} slots: {self.missing} missing, {self.extra} extra, "
            f"{self.mismatched} mismatched{': ' + ', '.join(self.where[:5]) if self.where else ''}"
        )


async def slot_sums(connection: PoolConnectionProxy, slots: Sequence[int]) -> Sums:
    """Read the sums of slots in the connection's transaction, or in one of its own."""
    async with connection.transaction():
        await connection.execute(_PLAIN_TEXT)
        rows = await connection.fetch(_SUMS, list(slots), timeout=_TIMEOUT_S)
    return {(row["table_name"], row["slot"]): (row["rows"], row["hash_sum"]) for row in rows}


async def compare(source: Node, target: Node, slots: Sequence[int]) -> Differences:
    """Compare the rows of slots that nobody writes meanwhile. `missing` are on the source alone."""
    async with source.connection() as one, target.connection() as other:
        return await compare_on(one, other, slots)


async def compare_on(
    source: PoolConnectionProxy, target: PoolConnectionProxy, slots: Sequence[int]
) -> Differences:
    """Do as `compare` does, on two connections: as their transactions see the rows."""
    ours, theirs = await asyncio.gather(slot_sums(source, slots), slot_sums(target, slots))
    found = Differences(slots=len(slots), rows=sum(rows for rows, _ in ours.values()))
    for key in sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
        found = found.plus(await _differences(source, target, *key))
    return found


async def _differences(
    source: PoolConnectionProxy, target: PoolConnectionProxy, table: str, slot: int
) -> Differences:
    ours, theirs = await asyncio.gather(_hashes(source, table, slot), _hashes(target, table, slot))
    return Differences(
        slots=0,
        rows=0,
        missing=len(ours.keys() - theirs.keys()),
        extra=len(theirs.keys() - ours.keys()),
        mismatched=sum(ours[key] != theirs[key] for key in ours.keys() & theirs.keys()),
        where=(f"{table} slot {slot}",),
    )


async def _hashes(connection: PoolConnectionProxy, table: str, slot: int) -> dict[str, int]:
    async with connection.transaction():
        await connection.execute(_PLAIN_TEXT)
        keys = ", ".join(row["attname"] for row in await connection.fetch(_KEYS, table))
        rows = await connection.fetch(_HASHES.format(keys=keys, table=table), slot, timeout=_TIMEOUT_S)
    return {row["key"]: row["hash"] for row in rows}
