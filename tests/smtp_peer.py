"""An SMTP client that says exactly what it is told to."""

import asyncio
import contextlib


class Peer:
    """One connection to a server. `reply` fails when nothing comes for 5 s."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, *lines: str) -> list[str]:
        """Send lines at once, return one reply for each."""
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        return [await self.reply() for _ in lines]

    async def send(self, data: bytes) -> str:
        self.writer.write(data)
        return await self.reply()

    async def reply(self) -> str:
        lines: list[str] = []
        async with asyncio.timeout(5):
            while not lines or lines[-1][3:4] == "-":
                lines.append((await self.reader.readuntil(b"\r\n")).decode().removesuffix("\r\n"))
        return "\n".join(lines)

    async def rest(self) -> bytes:
        """Read until the connection ends; a reset is an end too, if this side was still sending."""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                return await self.reader.read()
        return b""

    async def is_silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing comes for a moment, not even the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
                return False
        return True
