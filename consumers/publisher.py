"""Publishing events with confirms: what was confirmed is in a queue, durably."""

import asyncio
from types import TracebackType
from typing import Self
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractExchange, DeliveryMode
from aio_pika.exceptions import DeliveryError

from consumers.connection import BROKER_ERRORS, explain, open_connection
from consumers.topology import EXCHANGE
from pipeline.backoff import Backoff
from pipeline.errors import BrokerUnavailableError, PublishUnknownError, UnroutableError
from pipeline.settings import AmqpSettings

CONTENT_TYPE = "application/cloudevents+json"
_ATTEMPTS_MAX = 5
_RETRY = Backoff(base_s=0.2, ceiling_s=5.0)


class EventPublisher:
    """Publishes to the exchange `orders`. An async context manager; safe to call from many tasks.

    At most `publish_window` publishes await their confirm at once; further callers wait.
    """

    def __init__(self, settings: AmqpSettings) -> None:
        self._settings = settings
        self._window = asyncio.Semaphore(settings.publish_window)
        self._connection: AbstractConnection | None = None
        self._exchange: AbstractExchange | None = None
        self.confirmed = 0

    async def __aenter__(self) -> Self:
        self._connection = await open_connection(self._settings, "postorder publisher")
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                self._exchange = await channel.get_exchange(EXCHANGE, ensure=True)
        except BROKER_ERRORS as error:
            await self._close()
            raise BrokerUnavailableError(explain(error, self._settings)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s):
                    await connection.close()
            except BROKER_ERRORS:
                pass  # it is gone already

    async def publish(self, event: bytes, routing_key: str, content_type: str = CONTENT_TYPE) -> None:
        """Publish one event; return when it is confirmed.

        An unconfirmed event is published again, with the same event id inside, so that a first copy that
        did arrive is recognised as the same event. Raises UnroutableError, PublishUnknownError (no confirm
        after several tries) or BrokerUnavailableError.
        """
        async with self._window:
            for attempt in range(1, _ATTEMPTS_MAX + 1):
                try:
                    await self._publish_once(event, routing_key, content_type)
                except TimeoutError:
                    await asyncio.sleep(_RETRY.delay_s(attempt))
                else:
                    self.confirmed += 1
                    return
        raise PublishUnknownError(
            f"no confirm after {_ATTEMPTS_MAX} tries; publish it again, with the same id"
        )

    async def _publish_once(self, event: bytes, routing_key: str, content_type: str) -> None:
        if self._exchange is None:
            raise BrokerUnavailableError("the publisher is not open")
        message = aio_pika.Message(
            event,
            content_type=content_type,
            delivery_mode=DeliveryMode.PERSISTENT,
            # The library matches returned messages by this id, so each attempt needs its own.
            message_id=uuid4().hex,
        )
        try:
            await self._exchange.publish(
                message, routing_key, mandatory=True, timeout=self._settings.publish_timeout_s
            )
        except DeliveryError as error:
            raise UnroutableError(
                f"the broker refused routing key {routing_key}: no queue, or a full one"
            ) from error
        except TimeoutError:
            raise
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(explain(error, self._settings)) from error
