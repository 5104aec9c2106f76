"""Reads of one shard for people: totals, sums and replication."""

from datetime import datetime
from typing import Any, Final

import msgspec

from pipeline.storage.node import Node
from pipeline.storage.statements import STATUS

_COUNT_S: Final = 60.0
"""For a count of a table, which is read through."""


class EffectCount(msgspec.Struct, frozen=True):
    """How many messages of a kind are in a state."""

    channel: str
    kind: str
    state: str
    effects: int


class Replication(msgspec.Struct, frozen=True):
    """How far a replica is behind, in bytes of WAL and seconds, as the primary sees it."""

    name: str
    state: str
    sync_state: str
    lag_bytes: int
    lag_s: float


class ShardTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What one shard's tables and batch sums say, at one moment."""

    slots: int
    epoch: int
    inbox: int
    orders: int
    invoices: int
    invoices_waiting: int
    customers: int
    quarantined: int
    batch_sums: dict[str, int]
    accepted: dict[str, int]
    per_min: dict[str, int]
    effects: list[EffectCount]
    owed: int
    replicas: list[Replication]


class ShardReader:
    """Reads from one server."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def owned_slots(self) -> dict[int, int]:
        """Return the slots the shard owns, each with its epoch."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(STATUS["owned_slots"])
        return {row["slot"]: row["epoch"] for row in rows}

    async def totals(self) -> ShardTotals:
        """Return all figures of the shard from one snapshot, so that they add up while events flow."""
        async with self._node.connection() as connection:
            return await read_totals(connection, timeout_s=_COUNT_S)

    async def intake_by_trigger(self) -> dict[str, tuple[int, int]]:
        """Return how many events and batches were committed, by what closed the batch."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(STATUS["intake_by_trigger"])
        return {row["trigger"]: (int(row["events"]), int(row["batches"])) for row in rows}

    async def clock(self) -> datetime:
        """Return the server's time."""
        async with self._node.connection() as connection:
            now: datetime = await connection.fetchval(STATUS["clock"])
        return now

    async def acceptance_latencies_s(self, kind: str, since: datetime) -> list[float]:
        """Return, for messages owed since a moment, seconds from event to the provider's acceptance."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(STATUS["acceptance_latencies"], kind, since)
        return [row["latency_s"] for row in rows]


async def read_totals(connection: Any, *, timeout_s: float | None = None) -> ShardTotals:
    """Return all figures of a shard from one snapshot, by a connection of asyncpg's, whose errors it raises.

    `timeout_s`: for each statement; None: as the connection has it.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        slots = await connection.fetch(STATUS["owned_slots"], timeout=timeout_s)
        totals = await connection.fetchrow(STATUS["totals"], timeout=timeout_s)
        sums = await connection.fetchrow(STATUS["intake_sums"], timeout=timeout_s)
        receipts = await connection.fetch(STATUS["receipt_sums"], timeout=timeout_s)
        effects = await connection.fetch(STATUS["effects_by_state"], timeout=timeout_s)
        owed = await connection.fetchval(STATUS["owed"], timeout=timeout_s)
        replicas = await connection.fetch(STATUS["replication"], timeout=timeout_s)
    return ShardTotals(
        slots=len(slots),
        epoch=max((row["epoch"] for row in slots), default=0),
        **{name: int(value) for name, value in totals.items()},
        batch_sums={name: int(sums[name]) for name in _SUMS},
        accepted={row["channel"]: int(row["accepted"]) for row in receipts},
        per_min=_per_min(sums, receipts),
        effects=[EffectCount(*row) for row in effects],
        owed=int(owed),
        replicas=[Replication(*row) for row in replicas],
    )


_SUMS = ("events", "orders", "invoices", "customers", "duplicates", "quarantined")


def _per_min(sums: Any, receipts: Any) -> dict[str, int]:
    accepted = {row["channel"]: int(row["accepted_per_min"] or 0) for row in receipts}
    return {
        "orders": int(sums["orders_per_min"]),
        "invoices": int(sums["invoices_per_min"]),
        "sms": accepted.get("sms", 0),
        "email": accepted.get("email", 0),
    }
