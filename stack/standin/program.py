"""How the stand-in servers run: one line when ready, one line on a start-up error, exit codes."""

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager

import uvloop

# Starts on entry, yields the line that says it is ready, and stops on exit.
Server = AbstractAsyncContextManager[str]


class StartUpError(Exception):
    """The program cannot start; the text is for the person who started it."""


async def _serve_until_signalled(server: Server) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with server as ready:
        print(ready, flush=True)  # noqa: T201 - whoever started the program waits for this line
        await stopped.wait()


def run(name: str, server: Server) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    try:
        uvloop.run(_serve_until_signalled(server))
    except (StartUpError, OSError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    return 0


@contextlib.asynccontextmanager
async def in_thread(server: Server) -> AsyncIterator[str]:
    """Serve in a thread with a loop like the program's: for tests that need no process of its own."""
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stopped = asyncio.Event()
        try:
            async with server as ready:
                started.set_result((ready, asyncio.get_running_loop(), stopped))
                await stopped.wait()
        except (StartUpError, OSError) as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=lambda: uvloop.run(serve()), name="server", daemon=True)
    thread.start()
    ready, loop, stopped = await asyncio.wrap_future(started)
    try:
        yield ready
    finally:
        loop.call_soon_threadsafe(stopped.set)
        await asyncio.to_thread(thread.join)
