"""A broker that speaks AMQP 0-9-1 and does what its script says, however wrong.

A test replaces an answer by its method's name: `broker.script["Queue.Declare"] = close_channel(404, "…")`.
"connect" is what the client's protocol header is answered with. What the client does against the protocol,
by RabbitMQ's rules, is kept in `wrongs`; every test ends with a look at them.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from conformance.inbox import PATIENCE_S, News
from conformance.messages import Message
from pamqp import commands
from pamqp import frame as pamqp_frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

HEARTBEAT_INTERVAL_S = 0.3
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class Ack(NamedTuple):
    tag: int
    multiple: bool


Answer = Callable[["Peer", Any], Awaitable[None] | None]


class Peer:
    """One client's connection. `outstanding` are the tags that it was given and did not acknowledge."""

    def __init__(
        self, broker: "ScriptedBroker", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.broker = broker
        self._reader = reader
        self._writer = writer
        self.transport = writer.transport
        self.socket: socket.socket = writer.get_extra_info("socket")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.silent = False
        self.in_mid_frame = False  # no heartbeat may come between the segments
        self.channel = 0
        self.channel_ended = False
        self.consumer_tag = ""
        self.prefetch = 0
        self.frame_max = broker.frame_max
        self.received: list[str] = []
        self.acks: list[Ack] = []
        self.covered: set[int] = set()
        self.outstanding: set[int] = set()
        self.published: list[tuple[commands.Basic.Publish, ContentHeader, bytes]] = []
        self.wrongs: list[str] = []
        self.consuming = False
        self.said_goodbye = False
        self.gone = False
        self._tag = 0

    # --- what it sends ------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self._writer.write(data)

    def method(self, method: Any, *, channel: int | None = None) -> None:
        self.send(pamqp_frame.marshal(method, self.channel if channel is None else channel))

    def stream(self, *messages: Message, piece_max: int | None = None) -> bytes:
        """Return the bytes of deliveries, with the next tags."""
        size = piece_max or self.frame_max - 8
        parts = []
        for message in messages:
            self._tag += 1
            self.outstanding.add(self._tag)
            parts += [
                message.method_frame(self.channel, self.consumer_tag, self._tag),
                message.header_frame(self.channel),
                message.body_frames(self.channel, size),
            ]
        return b"".join(parts)

    def deliver(self, *messages: Message, piece_max: int | None = None) -> None:
        self.send(self.stream(*messages, piece_max=piece_max))

    async def send_in_segments(self, *segments: bytes) -> None:
        """Send each by itself: the client's loop, which is ours, reads one before the next is written."""
        self.in_mid_frame = True
        for segment in segments:
            self.send(segment)
            for _ in range(3):
                await asyncio.sleep(0)
        self.in_mid_frame = False

    def reset(self) -> None:
        """End the connection as a host does that knows nothing of it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def hang_up(self) -> None:
        self._writer.close()

    def fall_silent(self) -> None:
        """Neither answer nor give a sign of life, nor close: the cable is cut."""
        self.silent = True

    # --- what it takes ------------------------------------------------------------------------------------

    async def serve(self) -> None:
        beating = asyncio.create_task(self._beat())
        try:
            await self._reader.readexactly(8)
            await self.answer("connect", None)
            while True:
                channel, frame = await self._frame()
                if not self.silent:
                    await self._take(channel, frame)
                self.broker.news.tell()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            beating.cancel()
            self.gone = True
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()
            self.broker.news.tell()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            if self.channel and not self.silent and not self.in_mid_frame:
                self.send(HEARTBEAT)

    async def _frame(self) -> tuple[int, Any]:
        head = await self._reader.readexactly(7)
        size = struct.unpack(">I", head[3:])[0]
        if size + 8 > self.frame_max:
            self.wrongs.append(f"a frame of {size + 8} bytes, agreed are {self.frame_max}")
        _, channel, frame = pamqp_frame.unmarshal(head + await self._reader.readexactly(size + 1))
        return channel, frame

    async def _take(self, channel: int, frame: Any) -> None:
        if isinstance(frame, ContentHeader | ContentBody):
            self._take_content(frame)
            return
        name = "Heartbeat" if isinstance(frame, Heartbeat) else frame.name
        self.received.append(name)
        if self.channel_ended and channel:
            self.wrongs.append(f"{name} on a channel that is closed")
        if name == "Channel.Open":
            self.channel = channel
        await self.answer(name, frame)

    def _take_content(self, frame: ContentHeader | ContentBody) -> None:
        publish, header, body = self.published[-1]
        if isinstance(frame, ContentHeader):
            self.published[-1] = (publish, frame, b"")
        else:
            self.published[-1] = (publish, header, body + frame.value)

    async def answer(self, name: str, frame: Any) -> None:
        answered = self.broker.script.get(name, ANSWERS.get(name, _unexpected))(self, frame)
        if answered is not None:
            await answered

    def take_ack(self, ack: commands.Basic.Ack) -> None:
        """Keep the books as RabbitMQ does, which closes the channel for a tag that is not outstanding."""
        tag, multiple = ack.delivery_tag or 0, bool(ack.multiple)
        self.acks.append(Ack(tag, multiple))
        covered = {at for at in self.outstanding if at <= tag} if multiple else self.outstanding & {tag}
        if tag not in self.outstanding:
            self.wrongs.append(f"{self.acks[-1]}: unknown delivery tag")
            close_channel(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}")(self, None)
        self.covered |= covered
        self.outstanding -= covered

    async def until(self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        await self.broker.news.until(condition, what, patience_s)

    async def until_gone(self, patience_s: float = PATIENCE_S) -> None:
        await self.until(lambda: self.gone, "the client's end of the connection", patience_s)

    async def until_acknowledged(self, *tags: int, patience_s: float = PATIENCE_S) -> None:
        wanted = set(tags)
        what = f"acknowledgement of {tags}, have {self.covered}"
        await self.until(lambda: self.covered >= wanted, what, patience_s)


class ScriptedBroker:
    """Listens on loopback. `peers` are the connections that came, the first one first."""

    def __init__(self) -> None:
        self.script: dict[str, Answer] = {}
        self.peers: list[Peer] = []
        self.frame_max = 131_072
        self.news = News()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        await peer.serve()
        self._serving.discard(task)

    async def consumer(self, number: int = 1) -> Peer:
        """Return the n-th connection that consumes, once it does."""
        await self.news.until(lambda: len(self._consumers()) >= number, f"consumer number {number}", 10)
        return self._consumers()[number - 1]

    def _consumers(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.consuming]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self.peers:
            peer.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving, timeout=2)
        await self._server.wait_closed()


# --- answers: a working broker's, and others ----------------------------------------------------------------


def _start(peer: Peer, _frame: Any) -> None:
    capabilities = dict.fromkeys(("basic.nack", "publisher_confirms", "consumer_cancel_notify"), True)
    properties = {"product": "scripted", "capabilities": capabilities}
    peer.method(commands.Connection.Start(server_properties=properties, mechanisms="PLAIN"), channel=0)


def _tune(peer: Peer, _frame: Any) -> None:
    peer.method(commands.Connection.Tune(2047, peer.broker.frame_max, 60), channel=0)


def _tuned(peer: Peer, frame: commands.Connection.TuneOk) -> None:
    peer.frame_max = frame.frame_max or peer.frame_max


def _qos(peer: Peer, frame: commands.Basic.Qos) -> None:
    peer.prefetch = frame.prefetch_count or 0
    peer.method(commands.Basic.QosOk())


def consume(peer: Peer, frame: commands.Basic.Consume) -> None:
    peer.consumer_tag = frame.consumer_tag or "scripted-1"
    peer.method(commands.Basic.ConsumeOk(consumer_tag=peer.consumer_tag))
    peer.consuming = True


def _goodbye(peer: Peer, _frame: Any) -> None:
    peer.said_goodbye = True
    peer.method(commands.Connection.CloseOk(), channel=0)
    peer.hang_up()


def channel_ended(peer: Peer, _frame: Any) -> None:
    peer.channel_ended = True


def _unexpected(peer: Peer, frame: Any) -> None:
    peer.wrongs.append(f"unexpected: {frame}")


def _publish(peer: Peer, frame: commands.Basic.Publish) -> None:
    peer.published.append((frame, ContentHeader(), b""))


ANSWERS: dict[str, Answer] = {
    "connect": _start,
    "Connection.StartOk": _tune,
    "Connection.TuneOk": _tuned,
    "Connection.Open": lambda peer, _: peer.method(commands.Connection.OpenOk(), channel=0),
    "Channel.Open": lambda peer, _: peer.method(commands.Channel.OpenOk()),
    "Basic.Qos": _qos,
    "Queue.Declare": lambda peer, frame: peer.method(commands.Queue.DeclareOk(frame.queue, 0, 0)),
    "Basic.Consume": consume,
    "Basic.Cancel": lambda peer, frame: peer.method(commands.Basic.CancelOk(frame.consumer_tag)),
    "Basic.Ack": Peer.take_ack,
    "Basic.Publish": _publish,
    "Confirm.Select": lambda peer, _: peer.method(commands.Confirm.SelectOk()),
    "Channel.Close": lambda peer, _: peer.method(commands.Channel.CloseOk()),
    "Channel.CloseOk": channel_ended,
    "Channel.FlowOk": lambda _peer, _frame: None,
    "Connection.Close": _goodbye,
    "Connection.CloseOk": lambda peer, _: peer.hang_up(),
    "Heartbeat": lambda _peer, _frame: None,
}


def silence(peer: Peer, _frame: Any) -> None:
    peer.fall_silent()


def hang_up(peer: Peer, _frame: Any) -> None:
    peer.hang_up()


def reset(peer: Peer, _frame: Any) -> None:
    peer.reset()


def say(data: bytes) -> Answer:
    return lambda peer, _: peer.send(data)


def close_connection(code: int, text: str) -> Answer:
    return lambda peer, _: peer.method(commands.Connection.Close(code, text, 0, 0), channel=0)


def close_channel(code: int, text: str) -> Answer:
    return lambda peer, _: peer.method(commands.Channel.Close(code, text, 0, 0))
