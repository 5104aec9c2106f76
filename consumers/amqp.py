"""The consumer of one queue through aio-pika: deliveries in, acknowledgements out, connections made anew."""

import asyncio
from collections.abc import Callable

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aiormq.abc import AbstractChannel as UnderlayChannel

from consumers.acks import AckTracker
from consumers.connection import BROKER_ERRORS, explain, open_connection
from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import BrokerUnavailableError
from pipeline.ingest.delivery import Delivery
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)

_RECONNECT = Backoff(base_s=0.5, ceiling_s=10.0)
_ACK_INTERVAL_S = 0.005  # acknowledgements are gathered for this long, so that one frame covers many


class Session:
    """One connection's life: a channel, its consumer, and the acknowledgements that belong to it."""

    def __init__(
        self, queue: str, settings: AmqpSettings, deliver: Callable[[Delivery], None], clock: Clock
    ) -> None:
        self._queue_name = queue
        self._settings = settings
        self._deliver = deliver
        self._clock = clock
        self._acks = AckTracker()
        self._settled = asyncio.Event()
        self._open_deliveries = 0
        self._lost = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._underlay: UnderlayChannel | None = None
        self._consumer_tag = ""

    def __repr__(self) -> str:
        return f"Session({self._queue_name}: {self._open_deliveries} open, {self._acks!r})"

    async def open(self) -> None:
        """Connect and begin to consume. Raises BrokerUnavailableError."""
        timeout_s = self._settings.connect_timeout_s
        self._connection = await open_connection(self._settings, f"postorder {self._queue_name}")
        self._connection.close_callbacks.add(lambda *_: self._lost.set())
        try:
            async with asyncio.timeout(timeout_s):
                self._channel = await self._connection.channel(publisher_confirms=False)
                self._channel.close_callbacks.add(lambda *_: self._lost.set())
                await self._channel.set_qos(prefetch_count=self._settings.prefetch)
                queue = await self._channel.declare_queue(self._queue_name, passive=True)
                self._underlay = await self._channel.get_underlay_channel()
                self._consumer_tag = await queue.consume(self._on_message)
        except BROKER_ERRORS as error:
            await self.close()
            raise BrokerUnavailableError(explain(error, self._settings)) from error

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        tag = message.delivery_tag
        if tag is None:
            return
        self._open_deliveries += 1
        self._deliver(
            Delivery(
                body=message.body,
                queue=self._queue_name,
                exchange=message.exchange or "",
                routing_key=message.routing_key or "",
                content_type=message.content_type,
                message_id=message.message_id,
                headers=message.headers,
                acknowledge=lambda: self._settle(tag),
            )
        )

    def _settle(self, tag: int) -> None:
        self._open_deliveries -= 1
        self._acks.settle(tag)
        self._settled.set()

    async def run(self) -> None:
        """Acknowledge what is settled until the connection is lost."""
        lost = asyncio.create_task(self._lost.wait())
        try:
            while not self._lost.is_set():
                settled = asyncio.create_task(self._settled.wait())
                await asyncio.wait({lost, settled}, return_when=asyncio.FIRST_COMPLETED)
                settled.cancel()
                await self._clock.sleep(_ACK_INTERVAL_S)
                await self._acknowledge()
        finally:
            lost.cancel()

    async def _acknowledge(self, *, everything: bool = False) -> None:
        self._settled.clear()
        if self._underlay is None or self._lost.is_set():
            return  # the tags died with their channel; the broker delivers those messages again
        try:
            if (tag := self._acks.take_multiple()) is not None:
                await self._underlay.basic_ack(tag, multiple=True)
            if everything or self._acks.ahead > self._settings.prefetch // 4:
                # One slow shard must not hold back the others' acknowledgements, and with them the window.
                for single in self._acks.take_single():
                    await self._underlay.basic_ack(single)
        except BROKER_ERRORS as error:
            log.warning("amqp.ack_failed", queue=self._queue_name, error=type(error).__name__)
            self._lost.set()

    async def cancel(self) -> None:
        """Ask for no more deliveries."""
        if self._channel is None or self._lost.is_set():
            return
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                queue = await self._channel.get_queue(self._queue_name, ensure=False)
                await queue.cancel(self._consumer_tag)
        except BROKER_ERRORS as error:
            log.warning("amqp.cancel_failed", queue=self._queue_name, error=type(error).__name__)
            self._lost.set()

    async def close(self) -> None:
        """Send the last acknowledgements and close. What is open stays with the broker."""
        await self._acknowledge(everything=True)
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._lost.set()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await connection.close()
        except BROKER_ERRORS:
            pass  # it is gone already


class QueueConsumer:
    """Consumes one queue for as long as it runs: a lost session is followed by a new one."""

    def __init__(
        self,
        queue: str,
        *,
        settings: AmqpSettings,
        deliver: Callable[[Delivery], None],
        metrics: Metrics,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self.name = f"{queue} consumer"
        self._queue = queue
        self._settings = settings
        self._deliver = deliver
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._session: Session | None = None
        self._draining = False

    def __repr__(self) -> str:
        return f"QueueConsumer({self._queue}: {self._session!r})"

    async def start(self) -> None:
        """Start consuming; a broker that is away is waited for."""
        self._tasks.start(self._supervise(), self.name)

    async def drain(self) -> None:
        """Take no more deliveries. Those taken are acknowledged as they become durable, until stop."""
        self._draining = True
        if self._session is not None:
            await self._session.cancel()

    async def stop(self) -> None:
        """Send the last acknowledgements and close the connection."""
        self._draining = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._tasks.cancel()

    async def _supervise(self) -> None:
        failures = 0
        while not self._draining:
            session = Session(self._queue, self._settings, self._deliver, self._clock)
            try:
                await session.open()
            except BrokerUnavailableError as error:
                failures += 1
                delay_s = _RECONNECT.delay_s(failures)
                log.warning(
                    "amqp.unavailable", queue=self._queue, error=str(error), retry_in_s=round(delay_s, 2)
                )
                await self._clock.sleep(delay_s)
                continue
            self._session = session
            failures = 0
            log.info("amqp.consuming", queue=self._queue, prefetch=self._settings.prefetch)
            await session.run()
            if not self._draining:
                self._metrics.reconnects.labels(self._queue).inc()
                log.warning("amqp.connection_lost", queue=self._queue)
                await session.close()
