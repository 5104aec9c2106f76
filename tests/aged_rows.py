"""Rows of any age on the first shard, and what retention leaves of them."""

from datetime import UTC, datetime, timedelta

import asyncpg
from real_stack import Bench

from pipeline.settings import RetentionSettings
from pipeline.storage.retention import TableRetention

KEEP = RetentionSettings(keep_days=30, step_pages=2, pause_ms=0)


class Rows:
    """The first shard: rows of any age, and what retention leaves of them."""

    def __init__(self, bench: Bench, connection: asyncpg.Connection) -> None:
        self.node = bench.cluster["shard0"].primary
        self.connection = connection
        self.owned = bench.cluster.shard_map.slots_of("shard0")

    async def add(
        self, key: str, *, days: float, states: tuple[str, ...] = (), slot: int | None = None
    ) -> None:
        """An order of so many days ago with its inbox row, and a message in each of the states."""
        at = datetime.now(UTC) - timedelta(days=days)
        place = self.owned[0] if slot is None else slot
        await self.connection.execute(
            "INSERT INTO orders (slot, order_id, currency, total, lines, processed_at, event_source, "
            "event_id, recorded_at) VALUES ($1, $2, 'EUR', 1, '[]', $3, '/tests', $2, $3)",
            place,
            key,
            at,
        )
        await self.connection.execute(
            "INSERT INTO inbox SELECT $1, event_key_of('/tests', $2), event_key_of('', $2), $3",
            place,
            key,
            at,
        )
        for number, state in enumerate(states):
            await self.connection.execute(
                "INSERT INTO outbox (slot, effect_id, order_id, channel, kind, state, expires_at, "
                "created_at) VALUES ($1, effect_id_of($2 || $4, 9), $2, 'email', 'order_email', $3, "
                "now(), $5)",
                place,
                key,
                state,
                str(number),
                at,
            )

    async def walk(self, settings: RetentionSettings = KEEP) -> dict[str, int]:
        """Walk through both tables to their ends; return how many rows went."""
        deleted = {}
        for table in (TableRetention(self.node, name, settings) for name in ("outbox", "inbox")):
            deleted[table.table] = 0
            while (step := await table.step()) is not None:
                deleted[table.table] += step.deleted
                if step.is_last:
                    break
        await self.connection.execute("UPDATE retention_walk SET due_at = now()")
        return deleted

    async def left(self, table: str) -> set[str]:
        """The orders of which the table still has a row."""
        of = {
            "outbox": "SELECT order_id FROM outbox",
            "inbox": "SELECT order_id FROM orders o JOIN inbox i ON i.slot = o.slot "
            "AND i.event_key = event_key_of(o.event_source, o.event_id)",
        }
        return {row["order_id"] for row in await self.connection.fetch(of[table])}
