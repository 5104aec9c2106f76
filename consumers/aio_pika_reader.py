"""The reference reader: the same deliveries through aio-pika. Selected by `amqp.reader`."""

import asyncio
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import AbstractChannel as UnderlayChannel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import InvalidFrameError

from consumers.acks import AckTracker
from consumers.connection import BROKER_ERRORS, close_quietly, explain, open_connection
from consumers.lean.wire import property_bytes
from pipeline.errors import BrokerUnavailableError
from pipeline.ingest.delivery import Delivery, Properties
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)

_ACK_INTERVAL_S = 0.005  # acknowledgements are gathered for this long, so that one frame covers many


class AioPikaSession:
    """One connection's life: a channel, its consumer, and the acknowledgements that belong to it.

    Consumes on the channel below aio-pika's: its message class raises for values that a broker may hold
    (delivery mode 7, expiration "abc"), after which such a message would stay unsettled for ever.
    """

    def __init__(
        self, queue: str, settings: AmqpSettings, deliver: Callable[[Delivery], None], prefetch: int
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._deliver = deliver
        self._prefetch = prefetch
        self._acks = AckTracker()
        self._flush: asyncio.TimerHandle | None = None
        self._acknowledging: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()  # an "all up to" frame must not overtake single ones
        self._closing = asyncio.Lock()
        self._asking = asyncio.Lock()  # a consumer ends and another begins without anything in between
        self._ending = False
        self._lost = asyncio.Event()
        self._error = ""
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._underlay: UnderlayChannel | None = None
        self._consumer_tag = ""
        self.open_deliveries = 0
        self.lost_by_decoding = False

    def __repr__(self) -> str:
        return f"AioPikaSession({self._queue}: {self.open_deliveries} open, {self._acks!r})"

    async def open(self) -> None:
        """Connect and begin to deliver. Raises BrokerUnavailableError."""
        self._connection = await open_connection(self._settings, f"postorder {self._queue}")
        self._connection.close_callbacks.add(self._on_lost)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                self._channel = await self._connection.channel(publisher_confirms=False)
                self._channel.close_callbacks.add(self._on_lost)
                await self._channel.set_qos(prefetch_count=self._prefetch)
                await self._channel.declare_queue(self._queue, passive=True)
                self._underlay = await self._channel.get_underlay_channel()
                self._underlay.on_consumer_cancel_callbacks.add(self._on_cancelled)
                answer = await self._underlay.basic_consume(self._queue, self._on_message)
                self._consumer_tag = answer.consumer_tag or ""
        except BROKER_ERRORS as error:
            await self.close()
            raise BrokerUnavailableError(explain(error, self._settings)) from error
        except asyncio.CancelledError:
            await self.close()
            raise

    def _on_lost(self, _sender: object, error: BaseException | None) -> None:
        self._error = self._error or (type(error).__name__ if error else "connection closed")
        if isinstance(error, InvalidFrameError | ValueError | RecursionError | KeyError | OverflowError):
            self.lost_by_decoding = True
        self._lost.set()

    def _on_cancelled(self, *_arguments: object) -> None:
        self._error = self._error or "the consumer was cancelled: its queue was deleted or moved"
        self._lost.set()

    async def _on_message(self, message: DeliveredMessage) -> None:
        properties = message.header.properties
        self.open_deliveries += 1
        self._deliver(
            Delivery(
                bytes(message.body),
                self._queue,
                message.exchange or "",
                message.routing_key or "",
                properties.content_type or None,
                properties.content_encoding or None,
                _raw(properties),
                partial(_properties, properties.headers or {}, properties.message_id),
                self._settle,
                message.delivery_tag or 0,
                asyncio.get_running_loop().time(),
            )
        )

    def _settle(self, tag: int) -> None:
        self.open_deliveries -= 1
        self._acks.settle(tag)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_ACK_INTERVAL_S, self._start_acknowledging)

    def _start_acknowledging(self) -> None:
        self._flush = None
        task = asyncio.create_task(self._acknowledge())
        self._acknowledging.add(task)
        task.add_done_callback(self._acknowledging.discard)

    async def _acknowledge(self, *, everything: bool = False) -> None:
        async with self._one_at_a_time:
            if self._underlay is None or self._lost.is_set():
                return  # the tags died with their channel; the broker delivers those messages again
            try:
                await self._send_acknowledgements(self._underlay, everything=everything)
            except BROKER_ERRORS as error:
                log.warning("amqp.ack_failed", queue=self._queue, error=type(error).__name__)
                self._error = self._error or "an acknowledgement could not be sent"
                self._lost.set()

    async def _send_acknowledgements(self, channel: UnderlayChannel, *, everything: bool) -> None:
        if (tag := self._acks.take_multiple()) is not None:
            await self._send(channel, tag, multiple=True)
        if everything or self._acks.ahead > self._prefetch // 4:
            # One slow shard must not hold back the others' acknowledgements, and with them the window.
            for single in self._acks.take_single():
                await self._send(channel, single, multiple=False)

    async def _send(self, channel: UnderlayChannel, tag: int, *, multiple: bool) -> None:
        # Each has the time-out for itself: thousands of them may take longer on a busy machine.
        async with asyncio.timeout(self._settings.connect_timeout_s):
            await channel.basic_ack(tag, multiple=multiple)

    async def wait_lost(self) -> str:
        """Return why, when the connection, its channel or its consumer has ended."""
        await self._lost.wait()
        return self._error

    def pause(self, paused: bool) -> None:  # noqa: FBT001  # the one argument is the state
        """Do nothing: the library reads on. The prefetch is what bounds this reader."""

    async def set_prefetch(self, prefetch: int) -> None:
        """Have the broker deliver up to so many unsettled ones from now on: see LeanSession."""
        async with self._asking:
            if self._channel is None or self._underlay is None or self._lost.is_set() or self._ending:
                return
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s):
                    await self._consume_anew(self._channel, self._underlay, prefetch)
            except BROKER_ERRORS as error:
                log.warning("amqp.prefetch_failed", queue=self._queue, error=type(error).__name__)
                self._lose("a request was not answered")
            except asyncio.CancelledError:
                self._lose("given up")  # without a consumer it would be of no use
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise  # else it comes from the library, which cancels what a closed channel was asked

    async def _consume_anew(self, channel: AbstractChannel, underlay: UnderlayChannel, prefetch: int) -> None:
        await channel.set_qos(prefetch_count=prefetch)
        await underlay.basic_cancel(self._consumer_tag)
        self._consumer_tag, self._prefetch = "", prefetch
        if not self._ending:
            answer = await underlay.basic_consume(self._queue, self._on_message)
            self._consumer_tag = answer.consumer_tag or ""

    def _lose(self, why: str) -> None:
        self._error = self._error or why
        self._lost.set()

    async def cancel(self) -> None:
        """Take no more deliveries."""
        self._ending = True
        async with self._asking:
            if self._underlay is not None and self._consumer_tag and not self._lost.is_set():
                await self._cancel(self._underlay)

    async def _cancel(self, underlay: UnderlayChannel) -> None:
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await underlay.basic_cancel(self._consumer_tag)
        except BROKER_ERRORS as error:
            log.warning("amqp.cancel_failed", queue=self._queue, error=type(error).__name__)
            self._lost.set()

    async def close(self) -> None:
        """Send the last acknowledgements and close."""
        async with self._closing:
            await self._close()

    async def _close(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
        if self._acknowledging:
            await asyncio.wait(self._acknowledging, timeout=self._settings.connect_timeout_s)
        await self._acknowledge(everything=True)
        connection, self._connection = self._connection, None
        self._error = self._error or "closed"
        self._lost.set()
        await close_quietly(connection, self._settings)


def _properties(headers: Mapping[str, object], message_id: str | None, _raw: bytes) -> Properties:
    return Properties(headers=headers, message_id=message_id)


def _raw(properties: Any) -> bytes:
    """Return the bytes the library decoded; of a value it cannot write again, only the content type."""
    try:
        return bytes(properties.marshal())
    except (TypeError, ValueError, OverflowError, struct.error):
        return property_bytes(content_type=properties.content_type)
