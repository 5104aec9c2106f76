"""What supervisor and worker tell each other: lines of JSON on a socket that no one else has."""

import asyncio
from typing import Final

import msgspec

LINE_BYTES_MAX: Final = 262_144
_UNSENT_BYTES_MAX: Final = 65_536
FAILED: Final = 1
USAGE_ERROR: Final = 2
"""Exit statuses of a worker, as of every command."""


class WorkerTask(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is started with, its one argument. `number`: from 1. `parent`: the supervisor's pid."""

    number: int
    roles: tuple[str, ...]
    config: str
    socket: int
    parent: int


class WorkerWord(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker is: its readings (see pipeline.observability.readings), and what its consumers go by."""

    readings: dict[str, float]
    prefetch: int = 0
    batch_max: int = 0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to do. 0: as it is. `why`: the last decision, for the worker's own report."""

    stop: bool = False
    prefetch: int = 0
    batch_max: int = 0
    workers: int = 0
    bottleneck: str = ""
    why: str = ""


def send_line(writer: asyncio.StreamWriter, message: WorkerWord | Order) -> bool:
    """Send a message, without waiting. False: the other side reads nothing, and this one is left out."""
    transport = writer.transport
    if transport.is_closing() or transport.get_write_buffer_size() > _UNSENT_BYTES_MAX:
        return False
    writer.write(msgspec.json.encode(message) + b"\n")
    return True


async def read_line(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next line; None when the other side is gone, or sends what is none."""
    try:
        line = await reader.readline()
    except (OSError, ValueError):  # reset; longer than the limit
        return None
    return line if line.endswith(b"\n") else None
