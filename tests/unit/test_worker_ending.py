"""A worker's process that ends by itself just when it is to be killed."""

import asyncio
from pathlib import Path

from consumers.allocator.messages import WorkerWord
from consumers.allocator.worker import Worker, WorkerSpec
from pipeline.clock import SystemClock


class HurriedClock(SystemClock):
    """Does not wait between looks."""

    async def sleep(self, delay_s: float) -> None:  # noqa: ARG002
        await asyncio.sleep(0)


class Ending:
    """A process that hangs until it is about to be killed, and ends just then."""

    pid = 0

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    def kill(self) -> None:
        self._ended.set()
        raise ProcessLookupError

    async def wait(self) -> int:
        await self._ended.wait()
        return 3


async def test_one_that_ends_just_when_it_is_to_be_killed_is_no_error() -> None:
    spec = WorkerSpec(number=1, roles=(), config=Path(), environment={}, stop_s=5.0)
    worker = Worker(spec, clock=HurriedClock(), on_ended=lambda _worker: None)
    worker.word = WorkerWord(readings={})  # has spoken, and was never heard of again
    assert await asyncio.wait_for(worker._until_ended(Ending()), 5) == 3  # type: ignore[arg-type]
