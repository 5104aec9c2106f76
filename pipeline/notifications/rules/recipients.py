"""What recipients said: that they want nothing any more, or again. Recorded where they live by now."""

from collections.abc import Awaitable, Callable
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
    RecipientTable,
    located,
    recipient_key,
)
from pipeline.storage.standing import Said

log = structlog.get_logger(__name__)

T = TypeVar("T")

_TRIES = 50
_MOVING_S = 0.02  # a slot is nobody's for a moment while it moves


class Recipients:
    """The recipients of all shards."""

    def __init__(self, cluster: Cluster, *, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock

    async def set(self, channel: Channel, address: str, said: Said, *, report: str | None = None) -> bool:
        """Record what was said of a number in E.164 or an address; see `set_key`."""
        return await self.set_key(recipient_key(channel, address).key, channel, said, report=report)

    async def set_key(self, key: UUID, channel: Channel, said: Said, *, report: str | None = None) -> bool:
        """Record what was said of a recipient; return whether it counts. Durable on return.

        What was said last counts; see pipeline/storage/standing.py. `report`: what names the request or mail
        that says it; once more it changes nothing, for two days and in whichever process. Raises a retryable
        error when the shard is away.
        """
        recipient = located(key)
        counts = await self._at_home(recipient, lambda table: table.set(recipient, channel, said, report))
        if counts:
            log.info("recipient.changed", channel=channel, state=said.state, reason=said.reason)
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
