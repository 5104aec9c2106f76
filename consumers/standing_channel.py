"""A channel for who asks the broker something every few seconds, for as long as the process runs."""

from aio_pika.abc import AbstractChannel, AbstractConnection

from consumers.connection import close_quietly, open_connection
from pipeline.settings import AmqpSettings


class StandingChannel:
    """One channel on a connection of its own; both live and end together. Mutable state: both.

    aio-pika 10.2 with aiormq 7.2 keeps 5 KB of every channel that was closed for as long as its connection
    lives: in `UnderlayChannel.close` it takes its callback off another future than it was put on. So nobody
    who asks again and again opens a channel for each question.
    """

    def __init__(self, settings: AmqpSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    def __repr__(self) -> str:
        return f"StandingChannel({self._name}: {'closed' if self._channel is None else 'open'})"

    async def get(self) -> AbstractChannel:
        """Return the channel, opened if there is none. Whoever meets an error on it closes this.

        Raises BrokerUnavailableError, and BROKER_ERRORS; the caller limits the time.
        """
        if self._connection is None:
            self._connection = await open_connection(self._settings, self._name)
        if self._channel is None:
            self._channel = await self._connection.channel()
        return self._channel

    async def close(self) -> None:
        """Close the connection, and the channel with it; the next `get` opens others. Raises nothing."""
        connection, self._connection, self._channel = self._connection, None, None
        await close_quietly(connection, self._settings)
