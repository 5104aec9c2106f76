"""A TCP proxy on loopback that makes a server slow: answers wait, some of them or all, or stop altogether.

As a program (`python -m loadtest.slow_proxy PORT…`) it has a process of its own: it prints the ports of its
proxies, and takes how they are to behave in lines of JSON from standard input, until that ends.
"""

import asyncio
import random
import sys
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

import msgspec
import uvloop

from stack.ports import HOST

_CHUNK_BYTES = 65_536
_START_TIMEOUT_S = 20.0


class Behaviour(msgspec.Struct, frozen=True):
    """What share of the answers waits for how long."""

    slow_share: float = 0.0
    delay_s: float = 0.0


class SlowProxy:
    """Passes bytes on between a port of its own and a server's; a context manager.

    Of the pieces that come from the server the behaviour's share waits, the order among them kept.
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
        self.behaviour = Behaviour()
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
                    if self._random.random() < self.behaviour.slow_share:
                        await asyncio.sleep(self.behaviour.delay_s)
                    self.held += 1
                    await self._flows.wait()
                    self.held -= 1
                sink.write(piece)
                await sink.drain()


class ProxyProcess:
    """Proxies in a process of their own; a context manager. `ports` are theirs, in the targets' order."""

    def __init__(self, target_ports: list[int]) -> None:
        self._target_ports = target_ports
        self._process: asyncio.subprocess.Process | None = None
        self.ports: list[int] = []

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "loadtest.slow_proxy",
            *map(str, self._target_ports),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_TIMEOUT_S):
            self.ports = msgspec.json.decode(await self._process.stdout.readline(), type=list[int])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            await process.wait()

    async def behave(self, *behaviours: Behaviour) -> None:
        """Say how each proxy behaves from now on; return when they do."""
        process = self._process
        assert process is not None, "not started"
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(behaviours) + b"\n")
        async with asyncio.timeout(_START_TIMEOUT_S):
            await process.stdout.readline()


async def _serve(target_ports: list[int]) -> None:
    async with AsyncExitStack() as exits:
        proxies = [await exits.enter_async_context(SlowProxy(port)) for port in target_ports]
        print(msgspec.json.encode([proxy.port for proxy in proxies]).decode(), flush=True)  # noqa: T201
        while line := await asyncio.to_thread(sys.stdin.readline):
            behaviours = msgspec.json.decode(line, type=list[Behaviour])
            for proxy, behaviour in zip(proxies, behaviours, strict=True):
                proxy.behaviour = behaviour
            print("done", flush=True)  # noqa: T201  # the other side waits for it


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve([int(port) for port in sys.argv[1:]]))
