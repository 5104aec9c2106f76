"""The quarantine of one shard: look at what is held, and say what became of it."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec
import orjson

from pipeline.storage.node import Node
from pipeline.storage.statements import load_statements

QUARANTINE = load_statements("quarantine.sql")


class QuarantineState(StrEnum):
    """Where a quarantined delivery stands."""

    HELD = "held"
    REDRIVEN = "redriven"
    DROPPED = "dropped"


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries are meant; what is None or empty means any. Times are of the last sighting."""

    states: tuple[QuarantineState, ...] = (QuarantineState.HELD,)
    reason: str | None = None
    queue: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[str, ...] = ()
    """Beginnings of ids: hexadecimal digits, lower case, without dashes."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery in quarantine. `body` is what came, byte for byte."""

    shard: str
    slot: int
    quarantine_id: UUID
    reason: str
    detail: str
    queue: str
    exchange: str
    routing_key: str
    content_type: str | None
    message_id: str | None
    headers: dict[str, object]
    body: bytes
    seen: int
    first_seen_at: datetime
    last_seen_at: datetime
    state: QuarantineState

    @property
    def id(self) -> str:
        """The id as people write it: 32 hexadecimal digits."""
        return self.quarantine_id.hex


class Quarantine:
    """The quarantine table on one shard's primary."""

    def __init__(self, shard: str, node: Node) -> None:
        self._shard = shard
        self._node = node

    async def find(self, wanted: Filter, limit: int) -> list[Quarantined]:
        """Return up to `limit` deliveries, those seen longest ago first."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(
                QUARANTINE["held"],
                list(wanted.states),
                wanted.reason,
                wanted.queue,
                wanted.since,
                wanted.until,
                list(wanted.ids),
                limit,
            )
        return [
            Quarantined(
                shard=self._shard,
                headers=orjson.loads(row["headers"]),
                state=QuarantineState(row["state"]),
                **{name: row[name] for name in _PLAIN},
            )
            for row in rows
        ]

    async def mark(self, found: Sequence[Quarantined], state: QuarantineState) -> int:
        """Set the state of deliveries that were not seen again since they were read; return how many."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(
                QUARANTINE["mark"],
                [one.slot for one in found],
                [one.quarantine_id for one in found],
                [one.seen for one in found],
                state,
            )
        return len(rows)


_PLAIN = tuple(name for name in Quarantined.__struct_fields__ if name not in ("shard", "headers", "state"))
