"""The Twilio emulator in a test's own loop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stack.twilio.emulator import emulating, read_arguments

SID, TOKEN = "AC" + "0a" * 16, "a token"
SERVICE = "MG" + "0b" * 16


@asynccontextmanager
async def emulated(*arguments: str) -> AsyncIterator[str]:
    """Run the emulator on a port of its own; yield its URL."""
    own = ("--port", "0", "--account-sid", SID, "--auth-token", TOKEN)
    async with emulating(read_arguments([*own, *arguments])) as ready:
        yield ready.removeprefix("ready ")
