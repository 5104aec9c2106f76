"""Who is what in a pair: asked of both servers now and then, while reads happen."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from pipeline.reading.endpoint import Attempt, Endpoint
from pipeline.storage.statements import load_statements

log = structlog.get_logger(__name__)

_SURVEY = load_statements("reads.sql")["survey"]
_TIMEOUT_S = 0.5


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One server's answer. `synchronous` counts on a primary only: commits there wait for the replica."""

    in_recovery: bool
    timeline: int
    synchronous: bool | None


class Survey:
    """What is known of a pair.

    `primary` is the server that is not in recovery, on the latest timeline; before any answer, the one the
    settings call so. `synchronous` is what it said last, None if nothing. `primary_answers`: whether it did
    when last asked.
    """

    def __init__(self, shard: str, endpoints: Sequence[Endpoint], every_s: float) -> None:
        self._shard = shard
        self._endpoints = endpoints
        self._every_s = every_s
        self._asked_at = 0.0
        self._running: asyncio.Task[None] | None = None
        self.primary = endpoints[0]
        self.timeline = 0
        self.synchronous: bool | None = None
        self.primary_answers = True

    def __repr__(self) -> str:
        return f"Survey({self._shard}: {self.primary.node.name}, timeline {self.timeline})"

    @property
    def replica(self) -> Endpoint | None:
        """The other server, if there is one."""
        return next((endpoint for endpoint in self._endpoints if endpoint is not self.primary), None)

    async def known(self) -> None:
        """See that the survey is not too old. Only the very first one is waited for."""
        is_first = not self._asked_at
        now = time.monotonic()
        if self._running is None and (is_first or now - self._asked_at > self._every_s):
            self._running = asyncio.create_task(self._ask_all(), name=f"survey of {self._shard}")
            self._running.add_done_callback(self._ended)
        if is_first and self._running is not None:
            await asyncio.wait({self._running})

    def note(self, timeline: int) -> None:
        """Remember the latest timeline seen."""
        self.timeline = max(self.timeline, timeline)

    async def close(self) -> None:
        """Wait for a survey under way."""
        if self._running is not None:
            await asyncio.wait({self._running})

    async def _ask_all(self) -> None:
        attempts = [endpoint.start(_ask, is_read=False) for endpoint in self._endpoints]
        await asyncio.wait({attempt.answer for attempt in attempts}, timeout=_TIMEOUT_S)
        for attempt in attempts:
            attempt.abandon()
        self._conclude(attempts)
        self._asked_at = time.monotonic()

    def _conclude(self, attempts: list[Attempt]) -> None:
        found = {
            attempt.endpoint: attempt.answer.result()
            for attempt in attempts
            if attempt.answer.done() and not attempt.answer.cancelled() and not attempt.answer.exception()
        }
        primaries = [endpoint for endpoint, standing in found.items() if not standing.in_recovery]
        self.primary_answers = bool(primaries)
        if not primaries:
            return
        primary = max(primaries, key=lambda endpoint: found[endpoint].timeline)
        if primary is not self.primary:
            log.warning("reads.primary_changed", shard=self._shard, primary=primary.node.address)
        self.primary = primary
        self.note(found[primary].timeline)
        synchronous = found[primary].synchronous
        if self.synchronous is not False and synchronous is False and self.replica is not None:
            log.warning("reads.replica_not_synchronous", shard=self._shard)
        self.synchronous = synchronous

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running = None
        if not task.cancelled() and (error := task.exception()):
            log.error("reads.survey_failed", shard=self._shard, exc_info=error)


async def _ask(endpoint: Endpoint, connection: Any) -> Standing:
    row = await connection.fetchrow(_SURVEY)
    endpoint.in_recovery = row["in_recovery"]
    return Standing(**{name: row[name] for name in Standing.__struct_fields__})
