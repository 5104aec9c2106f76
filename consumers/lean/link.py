"""One connection with one channel: handshake, requests, heartbeats, the end."""

import asyncio
import ssl
from typing import Any

import structlog
from pamqp import commands
from pamqp import frame as pamqp_frame
from pamqp.base import Frame
from yarl import URL

from consumers.connection import broker_address
from consumers.lean.protocol import AmqpProtocol, Content, Route
from consumers.lean.wire import CHANNEL
from pipeline.errors import BrokerUnavailableError
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)

_FRAME_MAX = 131_072
_NOT_FOUND, _ACCESS_REFUSED = 404, 403


class Link:
    """A connection to the broker. Subclasses take what comes in: deliveries, or confirms.

    `lost` is set once, when the connection or its channel has ended, however that came.
    """

    def __init__(self, settings: AmqpSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._where = f"broker at {broker_address(settings)}"
        self._protocol: AmqpProtocol | None = None
        self._reply: asyncio.Future[Frame] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._closing = False
        self.lost = asyncio.Event()
        self.error: str = ""
        self.frame_max = _FRAME_MAX
        self.blocked = False

    def __repr__(self) -> str:
        return f"Link({self._name}: {'lost' if self.lost.is_set() else 'open'}, {self._protocol!r})"

    # --- opening ------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect and open the channel. Raises BrokerUnavailableError, with what to do about it."""
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await self._handshake()
                await self.call(commands.Channel.Open(), channel=CHANNEL)
        except TimeoutError:
            self.abort("no answer")
            raise BrokerUnavailableError(
                f"{self._where}: no answer in {self._settings.connect_timeout_s:g} s: is it running?"
            ) from None
        except OSError as error:
            self.abort(str(error))
            why = "connection refused: is it running?" if isinstance(error, ConnectionRefusedError) else error
            raise BrokerUnavailableError(f"{self._where}: {why}") from error
        except BaseException:  # cancelled too: nobody else knows of this connection
            self.abort("given up")
            raise

    async def _handshake(self) -> None:
        url = URL(self._settings.url)
        loop = asyncio.get_running_loop()
        context = _tls(url) if url.scheme == "amqps" else None
        self._reply = loop.create_future()
        _, self._protocol = await loop.create_connection(
            lambda: AmqpProtocol(self, loop.time), url.host or "127.0.0.1", url.port or 5672, ssl=context
        )
        await self._answer()  # connection.start
        tune = await self.call(self._start_ok(url), channel=0)
        if not isinstance(tune, commands.Connection.Tune):
            raise BrokerUnavailableError(f"{self._where}: unexpected {tune.name}")
        self.frame_max = min(tune.frame_max or _FRAME_MAX, _FRAME_MAX)
        self._protocol.frame_bytes_max = self.frame_max
        self._send(commands.Connection.TuneOk(1, self.frame_max, self._settings.heartbeat_s), channel=0)
        await self.call(commands.Connection.Open(virtual_host=url.path[1:] or "/"), channel=0)
        self._heartbeat()

    def _start_ok(self, url: URL) -> Frame:
        password = self._settings.password or url.password or "guest"
        return commands.Connection.StartOk(
            client_properties={
                "product": "postorder",
                "connection_name": self._name,
                "capabilities": {
                    "authentication_failure_close": True,
                    "basic.nack": True,
                    "connection.blocked": True,
                    "consumer_cancel_notify": True,
                    "publisher_confirms": True,
                },
            },
            mechanism="PLAIN",
            response=f"\0{url.user or 'guest'}\0{password}",
            locale="en_US",
        )

    # --- requests -----------------------------------------------------------------------------------------

    async def call(self, method: Frame, *, channel: int = CHANNEL) -> Frame:
        """Send a request and return its answer. One at a time; the caller limits the time."""
        if self.lost.is_set():
            raise BrokerUnavailableError(f"{self._where}: {self.error}")
        self._reply = asyncio.get_running_loop().create_future()
        self._send(method, channel=channel)
        return await self._answer()

    async def _answer(self) -> Frame:
        reply = self._reply
        if reply is None:
            raise BrokerUnavailableError(f"{self._where}: no request")
        try:
            return await reply
        finally:
            self._reply = None

    def _send(self, method: Frame, *, channel: int) -> None:
        self.write(pamqp_frame.marshal(method, channel))

    def write(self, frames: bytes) -> None:
        """Write frames; after the end, nothing happens."""
        if self._protocol is not None:
            self._protocol.send(frames)

    @property
    def can_write(self) -> bool:
        """Whether the socket's buffer has room."""
        return self._protocol is not None and self._protocol.writable.is_set()

    async def writable(self) -> None:
        """Wait while the socket's buffer is full."""
        if self._protocol is not None:
            await self._protocol.writable.wait()

    def pause_reading(self, *, paused: bool) -> None:
        """Stop or go on taking bytes from the socket."""
        if self._protocol is not None:
            self._protocol.pause_reading(paused=paused)

    # --- heartbeats ---------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        interval_s = self._settings.heartbeat_s / 2
        loop = asyncio.get_running_loop()
        self._beat = loop.call_later(interval_s, self._heartbeat)
        protocol = self._protocol
        if protocol is None:
            return
        now = loop.time()
        if now - protocol.sent_at >= interval_s * 0.9:
            protocol.send_heartbeat()
        if protocol.reading and now - protocol.received_at > self._settings.heartbeat_s * 2.5:
            protocol.fail(TimeoutError("the broker is silent"))

    # --- what comes in ------------------------------------------------------------------------------------

    def on_delivery(self, tag: int, route: Route, content: Content) -> None:
        """Take a message: nothing here."""

    def on_confirm(self, tag: int, *, multiple: bool, confirmed: bool) -> None:
        """Take a confirm: nothing here."""

    def on_return(self, code: int) -> None:
        """Take a return: nothing here."""

    def on_method(self, channel: int, method: Frame) -> None:
        """Answer the broker's requests, hand answers to who waits for them."""
        match method:
            case commands.Connection.Close() | commands.Channel.Close():
                self._closed_by_broker(channel, method)
            case commands.Basic.Cancel():
                self._end("the consumer was cancelled: its queue was deleted or moved")
            case commands.Connection.Blocked():
                self.blocked = True
                log.warning("amqp.blocked", connection=self._name)
            case commands.Connection.Unblocked():
                self.blocked = False
                log.info("amqp.unblocked", connection=self._name)
            case commands.Channel.Flow():
                self._send(commands.Channel.FlowOk(active=method.active), channel=channel)
            case _ if self._reply is not None and not self._reply.done():
                self._reply.set_result(method)

    def _closed_by_broker(self, channel: int, method: Any) -> None:
        of_channel = isinstance(method, commands.Channel.Close)
        ok = commands.Channel.CloseOk() if of_channel else commands.Connection.CloseOk()
        self._send(ok, channel=channel)
        self._end(self._explained(method.reply_code, method.reply_text, of_channel=of_channel))
        if self._protocol is not None:
            self._protocol.close()

    @staticmethod
    def _explained(code: int, text: str, *, of_channel: bool) -> str:
        if code == _NOT_FOUND:
            return "a queue is missing: run `postorder topology apply`"
        if code == _ACCESS_REFUSED and not of_channel:
            return "it refuses the user or password of amqp.url: check POSTORDER_AMQP_PASSWORD"
        return f"closed by the broker: {code} {text[:100]}"

    def on_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self._end(str(error) if error else "connection closed")

    def _end(self, why: str) -> None:
        self.error = self.error or why
        if self._beat is not None:
            self._beat.cancel()
        if not self.lost.is_set():
            self.lost.set()
            self.on_end()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(BrokerUnavailableError(f"{self._where}: {self.error}"))
            self._reply.exception()  # nobody may be waiting for it

    def on_end(self) -> None:
        """Do what the end asks for: nothing here."""

    # --- closing ------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Say goodbye and close. Safe to call at any time, and twice."""
        if self._closing or self._protocol is None:
            return
        self._closing = True
        try:
            if not self.lost.is_set():
                async with asyncio.timeout(self._settings.connect_timeout_s):
                    await self.call(commands.Connection.Close(200, "done", 0, 0), channel=0)
        except (BrokerUnavailableError, TimeoutError):
            pass  # it is gone already
        finally:  # cancelled too: nobody comes back to close the rest
            self._end("closed")
            self._protocol.close()

    def abort(self, why: str) -> None:
        """Cut the connection at once."""
        self._end(why)
        if self._protocol is not None:
            self._protocol.fail(ConnectionAbortedError(why))


def _tls(url: URL) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=url.query.get("cafile"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # what builds of Python make of the default differs
    return context
