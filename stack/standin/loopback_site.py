"""A low-level aiohttp server on one address, with every limit set."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from stack.standin.program import StartUpError

REQUEST_BYTES_MAX: Final = 8 * 1024 * 1024  # a behaviour with ten thousand rules fits
KEEPALIVE_S_MAX: Final = 75.0
# aiohttp spends this twice on requests that hang: once waiting, once cancelling.
SHUTDOWN_S_MAX: Final = 0.5
BACKLOG: Final = 1024

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def _limited_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=REQUEST_BYTES_MAX)


def why(error: OSError) -> str:
    """Return the reason in few words: asyncio wraps it in many."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


@contextlib.asynccontextmanager
async def serving(handler: Handler, host: str, port: int) -> AsyncIterator[str]:
    """Serve HTTP with `handler`; yields the base URL (port 0 takes a free port)."""
    server = web.Server(
        handler, request_factory=_limited_request, access_log=None, keepalive_timeout=KEEPALIVE_S_MAX
    )
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S_MAX)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        except OSError as error:
            raise StartUpError(f"cannot listen on {host}:{port}: {why(error)}") from error
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
