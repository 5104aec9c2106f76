"""A TCP proxy on loopback that makes a server slow: answers wait, some of them or all, or stop altogether."""

import asyncio
import random
from contextlib import suppress
from types import TracebackType
from typing import Self

from stack.ports import HOST

_CHUNK_BYTES = 65_536


class SlowProxy:
    """Passes bytes on between a port of its own and a server's; a context manager.

    `slow_share` of the pieces that come from the server wait for `delay_s`, the order among them kept.
    `connections` counts those made so far, the requests to cancel among them, for each has one of its own;
    `held` the answers that a stall holds back.
    """

    def __init__(self, target_port: int, *, seed: int = 0) -> None:
        self._target_port = target_port
        self._random = random.Random(seed)
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.slow_share = 0.0
        self.delay_s = 0.0
        self.connections = 0
        self.held = 0

    def __repr__(self) -> str:
        return f"SlowProxy(to {self._target_port}, {len(self._links)} open)"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._link, HOST, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    @property
    def port(self) -> int:
        """The port to connect to."""
        assert self._server is not None, "not started, or cut"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def behave(self, *, slow_share: float = 0.0, delay_s: float = 0.0) -> None:
        """From now on let this share of the answers wait for so long."""
        self.slow_share, self.delay_s = slow_share, delay_s

    def stall(self) -> None:
        """Pass nothing on from the server, and close nothing."""
        self._flows.clear()

    def flow(self) -> None:
        """Pass on what was held back, and go on."""
        self._flows.set()

    async def cut(self) -> None:
        """Close every connection and refuse new ones."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for link in self._links:
            link.cancel()
        if self._links:
            await asyncio.wait(self._links)
        await server.wait_closed()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self._target_port)
            try:
                await self._pass_both(reader, writer, server_reader, server_writer)
            finally:
                server_writer.close()
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or the proxy is cut: the client sees its connection close
        finally:
            self._links.discard(task)
            writer.close()

    async def _pass_both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        """Pass bytes both ways until one side closes."""
        ways = [
            asyncio.create_task(self._pass(reader, server_writer, is_answer=False)),
            asyncio.create_task(self._pass(server_reader, writer, is_answer=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(_CHUNK_BYTES):
                if is_answer:
                    if self._random.random() < self.slow_share:
                        await asyncio.sleep(self.delay_s)
                    self.held += 1
                    await self._flows.wait()
                    self.held -= 1
                sink.write(piece)
                await sink.drain()
