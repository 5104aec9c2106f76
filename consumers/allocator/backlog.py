"""What waits at the broker, looked at on a connection of its own."""

import asyncio
from collections.abc import Iterable

import structlog

from consumers.connection import BROKER_ERRORS
from consumers.standing_channel import StandingChannel
from pipeline.errors import BrokerUnavailableError
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)


class Backlog:
    """Messages ready in queues. Mutable state: `_channel`, `_is_blind`."""

    def __init__(self, queues: Iterable[str], settings: AmqpSettings) -> None:
        self._queues = tuple(queues)
        self._settings = settings
        self._channel = StandingChannel(settings, "postorder allocator")
        self._is_blind = False

    def __repr__(self) -> str:
        return f"Backlog({', '.join(self._queues)}{', blind' if self._is_blind else ''})"

    async def ready(self) -> int | None:
        """Return how many messages wait for a consumer in all queues; None when the broker does not say."""
        if not self._queues:
            return 0
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                found = await self._look()
        except (*BROKER_ERRORS, BrokerUnavailableError) as error:
            if not self._is_blind:
                log.warning("allocator.blind", error=type(error).__name__)
            self._is_blind = True
            await self.close()
            return None
        self._is_blind = False
        return found

    async def _look(self) -> int:
        channel = await self._channel.get()
        found = 0
        for name in self._queues:
            declared = await channel.declare_queue(name, passive=True)
            found += declared.declaration_result.message_count or 0
        return found

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()
