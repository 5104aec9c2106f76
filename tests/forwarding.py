"""A port that is another one: what a test opens and closes as if a server came and went."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from stack.ports import HOST


@asynccontextmanager
async def forwarding(port: int, to: int) -> AsyncIterator[None]:
    """Pass connections to a port on to another."""
    links: set[asyncio.Task[Any]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        links.add(task)
        to_there = await asyncio.open_connection(HOST, to)
        try:
            await asyncio.gather(copy(reader, to_there[1]), copy(to_there[0], writer))
        finally:
            for one in (writer, to_there[1]):
                one.close()
                with suppress(OSError):
                    await one.wait_closed()

    async with await asyncio.start_server(link, HOST, port):
        yield
        for task in links:
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)
