"""The audit: nothing is done before it is on record that it begins, and what came of it is recorded after."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import msgspec
import structlog

from pipeline.clock import Clock
from pipeline.control.homes import homes
from pipeline.errors import PostorderError
from pipeline.storage.audit import END, AuditEntry, Before, Outcome
from pipeline.storage.cluster import Cluster
from pipeline.storage.partial import of_each
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 2.0
_AFTER: Final = timedelta(microseconds=1)
_BYTES_MAX: Final = {"actor": 200, "what": 100, "target": 400, "detail": 2000}


class Action:
    """An action under way. Whoever does it may say in `detail` what came of it: ids and counts only."""

    def __init__(self, action_id: UUID) -> None:
        self.action_id = action_id
        self.detail = ""

    def __repr__(self) -> str:
        return f"Action({self.action_id}: {self.detail})"


class AuditLog:
    """Writes to every home, so that entries outlive a shard; reads from every shard."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock

    @asynccontextmanager
    async def action(self, actor: str, what: str, target: str, detail: str = "") -> AsyncIterator[Action]:
        """Do something on record: `async with audit.action(...)`.

        Raises StorageUnavailableError, and nothing is done, when it cannot be recorded that it begins. An
        error of the block is recorded as refused (trying again would not help) or failed, and goes on. An
        outcome that cannot be recorded is logged: the action then stays as begun.
        """
        begun = self._begun(actor, what, target, detail)
        await self._add(begun)
        action = Action(begun.action_id)
        try:
            yield action
        except PostorderError as error:
            outcome = Outcome.FAILED if error.retryable else Outcome.REFUSED
            await self._end(begun, outcome, type(error).__name__)
            raise
        except (Exception, asyncio.CancelledError) as error:
            await self._end(begun, Outcome.FAILED, type(error).__name__)
            raise
        await self._end(begun, Outcome.DONE, action.detail)

    async def entries(
        self, limit: int, *, before: Before = END, actor: str | None = None, what: str | None = None
    ) -> list[AuditEntry]:
        """Return up to `limit` entries before a place, the latest first, each once.

        Raises StorageUnavailableError when no shard answers.
        """

        async def read(shard: Shard) -> list[AuditEntry]:
            return await shard.audit.entries(before, limit, actor=actor, what=what)

        copies = await of_each(self._cluster, read, timeout_s=_TIMEOUT_S)
        found = {entry.entry_id: entry for copy in copies.answers.values() for entry in copy}
        ordered = sorted(found.values(), key=lambda entry: (entry.at, entry.entry_id), reverse=True)
        return ordered[:limit]

    def _begun(self, actor: str, what: str, target: str, detail: str) -> AuditEntry:
        return AuditEntry(
            entry_id=uuid4(),
            action_id=uuid4(),
            at=self._clock.now(),
            actor=_cut("actor", actor),
            what=_cut("what", what),
            target=_cut("target", target),
            epoch=self._cluster.shard_map.epoch,
            outcome=Outcome.BEGUN,
            detail=_cut("detail", detail),
        )

    async def _end(self, begun: AuditEntry, outcome: Outcome, detail: str) -> None:
        entry = msgspec.structs.replace(
            begun,
            entry_id=uuid4(),
            at=max(self._clock.now(), begun.at + _AFTER),  # also when the clock was put back
            epoch=self._cluster.shard_map.epoch,
            outcome=outcome,
            detail=_cut("detail", detail),
        )
        try:
            await self._add(entry)
        except BaseException as error:  # a cancellation too: it may be written, and may not
            is_ours, action = isinstance(error, PostorderError), str(begun.action_id)
            why = str(error) if is_ours else type(error).__name__  # others' texts may quote values
            log.error("audit.outcome_unwritten", action=action, what=begun.what, error=why)
            if not is_ours:
                raise

    async def _add(self, entry: AuditEntry) -> None:
        async def add(shard: Shard) -> None:
            await shard.audit.add(entry)

        await of_each(homes(self._cluster), add, timeout_s=_TIMEOUT_S)


def _cut(field: str, text: str) -> str:
    """Return what PostgreSQL takes of a text: no NUL, no half characters, not more than fits."""
    clean = text.replace("\0", "").encode("utf-8", "replace")[: _BYTES_MAX[field]]
    return clean.decode("utf-8", "ignore")
