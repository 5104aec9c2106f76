"""Start, drain and stop: the contract every service keeps, and the order among several."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol

import structlog

log = structlog.get_logger(__name__)

_LOST_S: Final = 10.0
"""A task that still runs so long after it was cancelled was not told: what tasks do at their end is over."""


class Service(Protocol):
    """Something that runs until it is told to end.

    start: returns when running; raises when it cannot run at all. drain: take nothing new, finish what is
    there, return when done. stop: give up what is left and return when nothing runs any more; may be called
    at any time, also twice, also before start.
    """

    name: str

    async def start(self) -> None:
        """Begin."""

    async def drain(self) -> None:
        """Finish what is there."""

    async def stop(self) -> None:
        """End."""


class Tasks:
    """The background tasks of one service. A task that dies of an error is a crash, never a silence."""

    def __init__(self, on_crash: Callable[[str, BaseException], None]) -> None:
        self._on_crash = on_crash
        self._running: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Tasks({len(self._running)} running)"

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine in the background."""
        task = asyncio.create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._on_crash(task.get_name(), error)

    async def join(self) -> None:
        """Wait until all have ended by themselves."""
        while self._running:
            await asyncio.wait(self._running)

    async def cancel(self) -> None:
        """Cancel all and wait until they have ended.

        A cancellation can get lost: `asyncio.wait_for` of Python 3.11, which libraries use, answers with the
        error of what it waited for when both come at once, and who retries goes on. So it is said again.
        """
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=_LOST_S)


async def run_services(services: Sequence[Service], until: asyncio.Event, *, drain_timeout_s: float) -> bool:
    """Run services, the most downstream first, until the event is set; then drain upstream first.

    Returns whether everything was drained within the time-out. A service that failed to start raises here,
    after those already started were stopped. Each is stopped, whatever another one raises when it is.
    """
    async with AsyncExitStack() as stopping:
        for service in services:
            await service.start()
            stopping.push_async_callback(service.stop)
        await until.wait()
        return await _drain(services, drain_timeout_s)


async def _drain(services: Sequence[Service], timeout_s: float) -> bool:
    log.info("drain.started", services=[service.name for service in services])
    current = ""
    try:
        async with asyncio.timeout(timeout_s):
            for service in reversed(services):
                current = service.name
                await service.drain()
    except TimeoutError:
        log.error("drain.timed_out", service=current, timeout_s=timeout_s)
        return False
    log.info("drain.finished")
    return True
