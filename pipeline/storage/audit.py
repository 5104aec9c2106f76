"""The audit on one shard: what operators did. Entries are added; the database refuses everything else."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from pipeline.storage.node import Node
from pipeline.storage.statements import load_statements

STATEMENTS: Final = load_statements("audit.sql")


class Outcome(StrEnum):
    """What came of an action. Of one that was killed on the way there is no more than that it was begun."""

    BEGUN = "begun"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry: `actor` did `what` (a dotted name) to `target` (ids only) by the map of `epoch`.

    The entries of one action share `action_id`. `recorded_at`: by the database; None before it is there.
    """

    entry_id: UUID
    action_id: UUID
    at: datetime
    actor: str
    what: str
    target: str
    epoch: int
    outcome: Outcome
    detail: str = ""
    recorded_at: datetime | None = None


class Before(NamedTuple):
    """A place in the audit: what came before this entry."""

    at: datetime
    entry_id: UUID


END: Final = Before(datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))
"""The end of the audit: everything came before it."""


class AuditTable:
    """The table on one shard's primary.

    Each method raises StorageUnavailableError or StorageTimeoutError.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def add(self, entry: AuditEntry) -> None:
        """Add an entry. On return it is on the replica. Raises StorageRejectedError for texts too long."""
        async with self._node.connection() as connection:
            await connection.execute(
                STATEMENTS["add"],
                entry.entry_id,
                entry.action_id,
                entry.at,
                entry.actor,
                entry.what,
                entry.target,
                entry.epoch,
                entry.outcome.value,
                entry.detail,
            )

    async def entries(
        self, before: Before, limit: int, *, actor: str | None = None, what: str | None = None
    ) -> list[AuditEntry]:
        """Return the entries before a place, the latest first."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(STATEMENTS["entries"], *before, actor, what, limit)
        return [AuditEntry(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows]
