"""What recipients said: that they want nothing any more, or again. Recorded where they live by now."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import structlog

from pipeline.clock import Clock
from pipeline.errors import SlotsMovedError, StorageConflictError
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import (
    RecipientKey,
    RecipientRow,
    RecipientState,
    RecipientTable,
    located,
    recipient_key,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

_TRIES = 50
_MOVING_S = 0.02  # a slot is nobody's for a moment while it moves


class Recipients:
    """The recipients of all shards."""

    def __init__(self, cluster: Cluster, *, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock

    async def set(
        self, channel: Channel, address: str, state: RecipientState, reason: str, at: datetime
    ) -> bool:
        """Record what was said of a number in E.164 or an address; see `set_key`."""
        return await self.set_key(recipient_key(channel, address).key, channel, state, reason, at)

    async def set_key(
        self, key: UUID, channel: Channel, state: RecipientState, reason: str, at: datetime
    ) -> bool:
        """Record what was said of a recipient at a time; return whether it counts. Durable on return.

        What was said last counts. START lifts STOP, but neither a bounce nor a block by an operator. `reason`
        is stop, start, provider:CODE, bounce:STATUS, unsubscribe or operator. Saying it again changes
        nothing. Raises a retryable error when the shard is away.
        """
        recipient = located(key)
        counts = await self._at_home(
            recipient, lambda table: table.set(recipient, channel, state, reason, at)
        )
        if counts:
            log.info("recipient.changed", channel=channel, state=state, reason=reason)
        return counts

    async def show(self, channel: Channel, address: str) -> RecipientRow:
        """Return what is known of a number or an address. Raises a retryable error."""
        recipient = recipient_key(channel, address)
        return await self._at_home(recipient, lambda table: table.show(recipient))

    async def _at_home(self, recipient: RecipientKey, act: Callable[[RecipientTable], Awaitable[T]]) -> T:
        """Act where a recipient lives, and follow when its slot moves."""
        tries = 0
        while True:
            tries += 1
            shard = self._cluster.router.shard_of(recipient.slot)
            try:
                return await act(self._cluster[shard].recipients)
            except (SlotsMovedError, StorageConflictError) as error:
                if tries >= _TRIES:
                    raise
                if isinstance(error, SlotsMovedError):
                    await self._cluster.refresh()
                    await self._clock.sleep(_MOVING_S)
