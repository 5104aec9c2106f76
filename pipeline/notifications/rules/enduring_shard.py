"""A shard's recipients, also while its primary is away: then the replica says what the primary said last."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from pipeline.clock import Clock
from pipeline.errors import PostorderError, StorageTimeoutError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.recipient_book import RecipientShard
from pipeline.storage.recipients import Asked, Counted, Words

log = structlog.get_logger(__name__)

_PROBE_S: Final = 1.0

AskReplica = Callable[[Sequence[Asked]], Awaitable[Words]]
"""Returns what a replica says that can prove to have all that was acknowledged. Raises retryable errors."""


class EnduringShard:
    """The primary is asked until it does not answer, then the replica, until the primary is back.

    Under a daily cap the primary alone can speak: only there messages are counted. Mutable state:
    `_is_silent`; `_probing_from`, when the primary is to be tried again; `_is_probing`.
    """

    def __init__(
        self, name: str, primary: RecipientShard, replica: AskReplica, *, clock: Clock, tasks: Tasks
    ) -> None:
        self._name = name
        self._primary = primary
        self._replica = replica
        self._clock = clock
        self._tasks = tasks
        self._is_silent = False
        self._is_probing = False
        self._probing_from = 0.0

    def __repr__(self) -> str:
        return f"EnduringShard({self._name}{', by its replica' if self._is_silent else ''})"

    async def ask(self, asked: Sequence[Asked], cap: int) -> Words:
        """Return what the shard says. Raises as the primary does when the replica cannot say either."""
        if cap:
            return await self._primary.ask(asked, cap)
        if self._is_silent:
            self._probe()
            return await self._replica(asked)
        try:
            return await self._primary.ask(asked, cap)
        except (StorageUnavailableError, StorageTimeoutError) as error:
            words = await self._from_replica(asked, error)
        self._is_silent, self._probing_from = True, self._clock.monotonic() + _PROBE_S
        log.warning("recipients.by_replica", shard=self._name)
        return words

    async def take_back(self, counted: Sequence[Counted], cap: int) -> None:
        """Count no more what was not sent: the primary's business."""
        await self._primary.take_back(counted, cap)

    async def _from_replica(self, asked: Sequence[Asked], away: PostorderError) -> Words:
        try:
            return await self._replica(asked)
        except PostorderError as error:
            log.debug("recipients.replica_cannot_say", shard=self._name, error=str(error))
            raise away from error

    def _probe(self) -> None:
        """Try the primary beside the work: nobody waits for its time-out again."""
        if self._is_probing or self._clock.monotonic() < self._probing_from:
            return
        self._is_probing = True
        self._tasks.start(self._ask_nothing(), f"try the primary of {self._name}")

    async def _ask_nothing(self) -> None:
        try:
            await self._primary.ask((), 0)
        except PostorderError as error:
            log.debug("recipients.primary_away", shard=self._name, error=str(error))
        else:
            self._is_silent = False
            log.info("recipients.by_primary", shard=self._name)
        finally:
            self._is_probing = False
            self._probing_from = self._clock.monotonic() + _PROBE_S
