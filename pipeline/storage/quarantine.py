"""The quarantine of one shard: look at what is held, and say what became of it."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec
import orjson

from pipeline.storage.fence import FencedTransaction
from pipeline.storage.node import Node
from pipeline.storage.statements import load_statements

QUARANTINE = load_statements("quarantine.sql")

# What is in memory at once; a single body may be longer.
_PAGE_ROWS = 500
_PAGE_BYTES = 16 * 1024 * 1024


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


class QuarantineLine(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery in quarantine without what it holds: no personal data."""

    shard: str
    slot: int
    quarantine_id: UUID
    reason: str
    detail: str
    queue: str
    exchange: str
    content_type: str | None
    body_bytes: int
    seen: int
    first_seen_at: datetime
    last_seen_at: datetime
    state: QuarantineState


class Quarantine:
    """The quarantine table on one shard's primary: the rows of slots that the shard owns."""

    def __init__(self, shard: str, node: Node) -> None:
        self._shard = shard
        self._node = node

    async def find(self, wanted: Filter, limit: int) -> list[Quarantined]:
        """Return up to `limit` deliveries, those seen longest ago first."""
        return await self._fetch(_HELD, wanted, limit)

    async def listed(self, wanted: Filter, limit: int) -> list[QuarantineLine]:
        """As `find`, without what deliveries hold."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(_LISTED, *_arguments(wanted), limit)
        return [msgspec.convert(dict(row) | {"shard": self._shard}, QuarantineLine) for row in rows]

    async def count(self, wanted: Filter) -> int:
        """Return how many deliveries there are."""
        async with self._node.connection() as connection:
            return int(await connection.fetchval(_COUNT, *_arguments(wanted)))

    async def pages(self, wanted: Filter) -> AsyncIterator[list[Quarantined]]:
        """Yield every delivery that was last seen before now, some at a time, in no particular order.

        What is seen again while this goes on is left out, so that it ends.
        """
        async with self._node.connection() as connection:
            now = await connection.fetchval("SELECT clock_timestamp()")
        wanted = msgspec.structs.replace(wanted, until=min(wanted.until or now, now))
        after = (-1, UUID(int=0))
        while page := await self._fetch(_PAGE, wanted, *after, _PAGE_ROWS, _PAGE_BYTES):
            yield page
            after = (page[-1].slot, page[-1].quarantine_id)

    async def _fetch(self, statement: str, wanted: Filter, *more: object) -> list[Quarantined]:
        async with self._node.connection() as connection:
            rows = await connection.fetch(statement, *_arguments(wanted), *more)
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
        """Set the state of deliveries; return of how many.

        Left as they are: those seen again since they were read, and those whose slot is on the move.
        """
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            rows = await connection.fetch(
                QUARANTINE["mark"],
                [one.slot for one in found],
                [one.quarantine_id for one in found],
                [one.seen for one in found],
                state,
            )
            await transaction.commit()
        return len(rows)


_HELD, _LISTED, _PAGE, _COUNT = (
    QUARANTINE[name].replace("{matching}", QUARANTINE["matching"])
    for name in ("held", "listed", "page", "count")
)
_PLAIN = tuple(name for name in Quarantined.__struct_fields__ if name not in ("shard", "headers", "state"))


def _arguments(wanted: Filter) -> tuple[object, ...]:
    states, ids = list(wanted.states), list(wanted.ids)
    return (states, wanted.reason, wanted.queue, wanted.since, wanted.until, ids)
