"""The lean reader: deliveries straight from the protocol, acknowledgements gathered into few frames."""

import asyncio
from collections.abc import Callable

import structlog
from pamqp import commands

from consumers.acks import AckTracker
from consumers.lean.link import Link
from consumers.lean.protocol import Content, Route
from consumers.lean.wire import ack_frame, read_properties
from pipeline.errors import BrokerUnavailableError
from pipeline.ingest.delivery import Delivery
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)

_ACK_INTERVAL_S = 0.002  # acknowledgements are gathered for this long, so that one frame covers many


class LeanSession(Link):
    """One connection's life. A message that no client library can read is a delivery like any other."""

    lost_by_decoding = False

    def __init__(
        self, queue: str, settings: AmqpSettings, deliver: Callable[[Delivery], None], prefetch: int
    ) -> None:
        super().__init__(settings, f"postorder {queue}")
        self._queue = queue
        self._deliver = deliver
        self._prefetch = prefetch
        self._acks = AckTracker()
        self._flush: asyncio.TimerHandle | None = None
        self._consumer_tag = ""
        self._asking = asyncio.Lock()  # requests are made one after the other
        self._paused = False
        self._ending = False
        self.open_deliveries = 0

    async def open(self) -> None:
        """Connect and begin to deliver. Raises BrokerUnavailableError."""
        await self.connect()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await self.call(commands.Basic.Qos(prefetch_count=self._prefetch))
                await self.call(commands.Queue.Declare(queue=self._queue, passive=True))
                answer = await self.call(commands.Basic.Consume(queue=self._queue))
        except TimeoutError:
            await self.close()
            raise BrokerUnavailableError(f"{self._where}: no answer to a request") from None
        except BrokerUnavailableError:
            await self.close()
            raise
        except BaseException:
            self.abort("given up")
            raise
        self._consumer_tag = getattr(answer, "consumer_tag", "")

    def on_delivery(self, tag: int, route: Route, content: Content) -> None:
        """Hand a message on."""
        self.open_deliveries += 1
        self._deliver(
            Delivery(
                content.body,
                self._queue,
                route.exchange,
                route.routing_key,
                content.content_type,
                content.content_encoding,
                content.raw_properties,
                read_properties,
                self._settle,
                tag,
                self._protocol.received_at if self._protocol else 0.0,
            )
        )

    def _settle(self, tag: int) -> None:
        self.open_deliveries -= 1
        self._acks.settle(tag)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_ACK_INTERVAL_S, self._acknowledge)

    def _acknowledge(self, *, everything: bool = False) -> None:
        self._flush = None
        if self.lost.is_set():
            return  # the tags died with their channel; the broker delivers those messages again
        if (tag := self._acks.take_multiple()) is not None:
            self.write(ack_frame(tag, multiple=True))
        if everything or self._acks.ahead > self._prefetch // 4:
            # One slow shard must not hold back the others' acknowledgements, and with them the window.
            singles = self._acks.take_single()
            self.write(b"".join(ack_frame(single, multiple=False) for single in singles))

    async def wait_lost(self) -> str:
        """Return why, when the connection, its channel or its consumer has ended."""
        await self.lost.wait()
        return self.error

    def pause(self, paused: bool) -> None:  # noqa: FBT001  # the one argument is the state
        """Stop or go on taking messages in; while something is asked, its answer has to come in."""
        self._paused = paused
        self.pause_reading(paused=paused and not self._ending and not self._asking.locked())

    async def set_prefetch(self, prefetch: int) -> None:
        """Have the broker deliver up to so many unsettled ones from now on.

        RabbitMQ takes the number that was set when a consumer began, so this one ends and another begins, on
        the same channel: tags and acknowledgements go on.
        """
        async with self._asking:
            if self.lost.is_set() or self._ending:
                return
            self.pause_reading(paused=False)
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s):
                    await self._consume_anew(prefetch)
            except (BrokerUnavailableError, TimeoutError) as error:
                log.warning("amqp.prefetch_failed", queue=self._queue, error=type(error).__name__)
                self.abort("no answer to a request")
            except BaseException:  # cancelled: without a consumer it would be of no use
                self.abort("given up")
                raise
        self.pause(self._paused)

    async def _consume_anew(self, prefetch: int) -> None:
        await self.call(commands.Basic.Qos(prefetch_count=prefetch))
        await self.call(commands.Basic.Cancel(consumer_tag=self._consumer_tag))
        self._consumer_tag, self._prefetch = "", prefetch
        if not self._ending:
            answer = await self.call(commands.Basic.Consume(queue=self._queue))
            self._consumer_tag = getattr(answer, "consumer_tag", "")

    async def cancel(self) -> None:
        """Take no more deliveries."""
        if self.lost.is_set():
            return
        self._ending = True
        self.pause_reading(paused=False)
        async with self._asking:
            if self._consumer_tag:
                await self._cancel()

    async def _cancel(self) -> None:
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await self.call(commands.Basic.Cancel(consumer_tag=self._consumer_tag))
        except (BrokerUnavailableError, TimeoutError) as error:
            log.warning("amqp.cancel_failed", queue=self._queue, error=type(error).__name__)

    async def close(self) -> None:
        """Send the last acknowledgements and close."""
        if self._flush is not None:
            self._flush.cancel()
        self._acknowledge(everything=True)
        self._ending = True
        self.pause_reading(paused=False)
        async with self._asking:
            await super().close()
