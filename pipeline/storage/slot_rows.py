"""The rows of slots on one server: how many there are, and their deletion where they no longer belong."""

from collections.abc import Collection, Sequence

import msgspec

from pipeline.errors import ReshardingError
from pipeline.storage.move_table import Move, move_step
from pipeline.storage.node import Node
from pipeline.storage.replication_link import MOVING_TABLES
from pipeline.storage.statements import MOVES

_TIMEOUT_S = 600.0
DELETE_MAX = 5000
"""Rows deleted in one transaction at most."""

_HAS_ROWS = " UNION ALL ".join(
    f"SELECT '{table}' AS table_name WHERE EXISTS "  # noqa: S608  # constants
    f"(SELECT FROM {table} WHERE slot = ANY ($1::smallint[]))"
    for table in MOVING_TABLES
)
_STRAYS = " UNION ALL ".join(
    f"SELECT '{table}' AS table_name, count(*) AS rows FROM {table} t "  # noqa: S608  # constants
    "WHERE NOT EXISTS (SELECT FROM shard_slot s WHERE s.slot = t.slot) AND slot <> ALL ($1::smallint[])"
    for table in MOVING_TABLES
)
_COUNT = "SELECT slot, count(*) AS rows FROM {table} {sample} GROUP BY slot"
_SIZE = """SELECT greatest(reltuples, 0)::bigint AS rows, pg_total_relation_size(oid) AS bytes
FROM pg_class WHERE oid = $1::text::regclass"""
# Never a row of a slot that the shard has to do with, whatever it is asked to delete.
_DELETE = """DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {table} t WHERE slot = ANY ($1::smallint[])
    AND NOT EXISTS (SELECT FROM shard_slot s WHERE s.slot = t.slot AND s.state <> 'arriving') LIMIT $2))"""
_COUNTED_WHOLE = 1_000_000  # rows; of larger tables a sample of their pages is counted


class SlotSize(msgspec.Struct, frozen=True):
    """About how much there is of a slot, all tables together; indexes and dead rows are in the bytes."""

    rows: float = 0.0
    size_bytes: float = 0.0


class SlotRows:
    """The tables with slots on one server."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def tables_with(self, slots: Sequence[int]) -> list[str]:
        """Return the tables that hold rows of some slots."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(_HAS_ROWS, list(slots), timeout=_TIMEOUT_S)
        return [row["table_name"] for row in rows]

    async def strays(self, expected: Collection[int] = ()) -> dict[str, int]:
        """Return how many rows of each table belong to slots that the shard has nothing to do with.

        Rows of the `expected` slots may lie here: they have moved, and can come back.
        """
        async with self._node.connection() as connection:
            rows = await connection.fetch(_STRAYS, list(expected), timeout=_TIMEOUT_S)
        return {row["table_name"]: row["rows"] for row in rows if row["rows"]}

    async def sizes(self) -> dict[int, SlotSize]:
        """Return how much there is of each slot: counted, or from a sample where a table is large."""
        found: dict[int, SlotSize] = {}
        async with self._node.connection() as connection:
            for table in MOVING_TABLES:
                size = await connection.fetchrow(_SIZE, table)
                share = min(1.0, _COUNTED_WHOLE / size["rows"]) if size["rows"] else 1.0
                sample = f"TABLESAMPLE SYSTEM ({share * 100:.3f}) REPEATABLE (0)" if share < 1 else ""
                counts = await connection.fetch(_COUNT.format(table=table, sample=sample), timeout=_TIMEOUT_S)
                counted = sum(row["rows"] for row in counts)
                for row in counts:
                    slot = found.get(row["slot"], SlotSize())
                    found[row["slot"]] = SlotSize(
                        slot.rows + row["rows"] / share,
                        slot.size_bytes + size["bytes"] * row["rows"] / counted,
                    )
        return found

    async def delete_some(self, move: Move, slots: Sequence[int]) -> int:
        """Delete up to DELETE_MAX rows of slots that are not this shard's; return how many."""
        deleted = 0
        async with move_step(self._node, move) as connection:
            for table in MOVING_TABLES:
                statement = _DELETE.format(table=table)
                status = await connection.execute(statement, list(slots), DELETE_MAX - deleted)
                deleted += int(status.split()[-1])
        return deleted


class ReplicaLag(msgspec.Struct, frozen=True):
    """How far the slowest replica of a server is behind."""

    seconds: float
    size_bytes: int


async def replica_lag(node: Node) -> ReplicaLag:
    """Ask a primary how far its replicas are behind."""
    async with node.connection() as connection:
        row = await connection.fetchrow(MOVES["replica_lag"])
    return ReplicaLag(row["lag_s"], row["lag_bytes"])


async def check_can_replicate(node: Node, links: int) -> None:
    """Raise ReshardingError unless a server, and this role on it, can take part in so many links."""
    async with node.connection() as connection:
        found = await connection.fetchrow(MOVES["can_replicate"])
    if found["wal_level"] != "logical":
        raise ReshardingError(f"{node.name}: its wal_level is {found['wal_level']}: set it to logical")
    if not (found["may_read"] and found["may_subscribe"]):
        raise ReshardingError(
            f"{node.name}: the role needs the attribute REPLICATION and membership in pg_create_subscription"
        )
    if found["free"] < links:
        raise ReshardingError(
            f"{node.name}: {found['free']} replication slots are free, the move needs {links}: "
            "raise max_replication_slots, or move fewer slots at a time"
        )


async def links_on(node: Node) -> list[str]:
    """Return what there is of links on a server, as `slot postorder_move_…`."""
    async with node.connection() as connection:
        return [f"{row['kind']} {row['name']}" for row in await connection.fetch(MOVES["left_behind"])]
