"""Listens for SMTP connections, and closes those that have gone quiet."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from stack.smtp.host import SmtpHost
from stack.smtp.session import SmtpSession
from stack.standin.loopback_site import why
from stack.standin.program import StartUpError

BACKLOG: Final = 1024
SWEEPS_PER_IDLE_TIME: Final = 10


async def _close_idle(host: SmtpHost, sessions: set[SmtpSession]) -> None:
    idle_s = host.settings.idle_s_max
    while True:
        await asyncio.sleep(idle_s / SWEEPS_PER_IDLE_TIME)
        since = time.monotonic() - idle_s
        for session in [session for session in sessions if session.is_idle(since)]:
            host.connections["timed_out"] += 1
            session.close("4.4.2 Idle for too long")


@contextlib.asynccontextmanager
async def listening(host: SmtpHost, address: str, port: int) -> AsyncIterator[int]:
    """Serve SMTP; yields the port (0 takes a free one)."""
    sessions: set[SmtpSession] = set()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: SmtpSession(host, sessions), address, port, backlog=BACKLOG)
    except OSError as error:
        raise StartUpError(f"cannot listen on {address}:{port}: {why(error)}") from error
    sweeper = asyncio.create_task(_close_idle(host, sessions), name="idle-connections")
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        sweeper.cancel()
        for session in list(sessions):
            session.close("4.3.2 Shutting down")
        # One turn of the loop lets the farewells out; nobody is waited for.
        await asyncio.gather(sweeper, return_exceptions=True)
