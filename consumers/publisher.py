"""Publishing events with confirms, for upstream systems: what was confirmed is in a queue, durably."""

import asyncio
import time
from collections.abc import Mapping
from itertools import count
from types import TracebackType
from typing import Self
from uuid import uuid4

import aio_pika
import msgspec
import structlog
from aio_pika.abc import AbstractConnection, AbstractExchange, DeliveryMode
from aio_pika.exceptions import DeliveryError

from consumers.connection import BROKER_ERRORS, close_quietly, explain, open_connection
from consumers.topology import DIRECT_EXCHANGE
from pipeline.backoff import Backoff
from pipeline.errors import BrokerUnavailableError, PublishUnknownError, UnroutableError
from pipeline.events import Event, type_of
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/cloudevents+json"
_RETRY = Backoff(base_s=0.2, ceiling_s=5.0)


class EventPublisher:
    """Publishes to the exchange `orders.direct`. An async context manager; safe to call from many tasks.

    At most `publish_window` publishes await their confirm at once; further callers wait. A connection that
    is lost is made anew. Mutable state: the connection and its exchange, replaced together under `_opening`.
    """

    def __init__(self, settings: AmqpSettings) -> None:
        self._settings = settings
        self._window = asyncio.Semaphore(settings.publish_window)
        self._opening = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._exchange: AbstractExchange | None = None
        self.confirmed = 0

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def publish_event(self, event: Event, headers: Mapping[str, str] | None = None) -> None:
        """Publish an event made from `pipeline.events`. See `publish`."""
        await self.publish(msgspec.json.encode(event), type_of(event), headers=headers)

    async def publish(
        self,
        event: bytes,
        routing_key: str,
        content_type: str = CONTENT_TYPE,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Publish one event; return when it is confirmed.

        `headers`: such as the `traceparent` and `tracestate` that an OpenTelemetry propagator injects.

        No confirm in time, or a connection lost before it, means unknown: the event is published again with
        the same event id inside, so that a first copy that did arrive is recognised as the same event.
        Raises UnroutableError, or PublishUnknownError after `publish_give_up_s`.
        """
        give_up_s = self._settings.publish_give_up_s
        async with self._window:
            deadline = time.monotonic() + give_up_s
            for attempt in count(1):
                try:
                    await self._publish_once(await self._open(), event, routing_key, content_type, headers)
                except (TimeoutError, BrokerUnavailableError) as error:
                    delay_s = _RETRY.delay_s(attempt)
                    if time.monotonic() + delay_s > deadline:
                        raise PublishUnknownError(
                            f"no confirm in {give_up_s:g} s; publish it again, with the same id"
                        ) from error
                    log.warning("publish.unconfirmed", attempt=attempt, error=str(error) or "no confirm")
                    await asyncio.sleep(delay_s)
                else:
                    self.confirmed += 1
                    return

    async def _publish_once(
        self,
        exchange: AbstractExchange,
        event: bytes,
        routing_key: str,
        content_type: str,
        headers: Mapping[str, str] | None,
    ) -> None:
        message = aio_pika.Message(
            event,
            content_type=content_type,
            headers=dict(headers) if headers else None,
            delivery_mode=DeliveryMode.PERSISTENT,
            # The library matches returned messages by this id, so each attempt needs its own.
            message_id=uuid4().hex,
        )
        try:
            await exchange.publish(
                message, routing_key, mandatory=True, timeout=self._settings.publish_timeout_s
            )
        except DeliveryError as error:
            raise UnroutableError(
                f"the broker refused routing key {routing_key}: no queue, or a full one"
            ) from error
        except TimeoutError:
            raise
        except BROKER_ERRORS as error:
            if self._exchange is exchange:
                self._exchange = None  # the library's connection may not know yet that it is gone
            raise BrokerUnavailableError(explain(error, self._settings)) from error

    async def _open(self) -> AbstractExchange:
        """Return the exchange of a connection that lives. Raises BrokerUnavailableError."""
        async with self._opening:
            if self._exchange is not None:
                return self._exchange
            await self._close()
            self._connection = await open_connection(self._settings, "postorder publisher")
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s):
                    channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                    self._exchange = await channel.get_exchange(DIRECT_EXCHANGE, ensure=True)
            except BROKER_ERRORS as error:
                await self._close()
                raise BrokerUnavailableError(explain(error, self._settings)) from error
            return self._exchange

    async def close(self) -> None:
        """Close the connection; the next publish opens another."""
        await self._close()

    async def _close(self) -> None:
        connection, self._connection, self._exchange = self._connection, None, None
        await close_quietly(connection, self._settings)
