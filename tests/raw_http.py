"""Bytes sent to a listener as they are."""

import asyncio


async def answered(port: int, *chunks: bytes, timeout_s: float) -> bytes:
    """Send bytes, and return all that comes until the connection is closed."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()
