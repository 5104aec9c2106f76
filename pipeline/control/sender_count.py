"""Has the rates of providers hold for the installation: each process that sends takes an equal share.

A provider counts what comes from an account or a number, whichever process it comes from. Shares are equal,
not by load: what a process leaves of its share is not used, and no message waits for another process's word.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

import structlog

from pipeline.clock import Clock
from pipeline.control.report_board import ReportBoard
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks

log = structlog.get_logger(__name__)

LOOK_S: Final = 2.0
_LOOKS: Final = 3
"""The most of so many looks counts: a home that crashed, or was just promoted, has forgotten its reports."""


class Shared(Protocol):
    """What is shared: a provider's rates."""

    def share_among(self, senders: int) -> None:
        """Have that part of each rate that one of so many processes may use."""


class SenderCount:
    """A service, started before whatever sends. What it has counted counts on while no home answers.

    `process_id`: this process, which counts always. `role`: that of processes that send. Mutable state:
    `_seen`, how many processes the last looks found; `senders`, what is gone by.
    """

    name = "senders"

    def __init__(
        self,
        board: ReportBoard,
        process_id: str,
        role: str,
        slots: Iterable[Shared],
        *,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._board = board
        self._process_id = process_id
        self._role = role
        self._slots = tuple(slots)
        self._clock = clock
        self._tasks = tasks
        self._seen: deque[int] = deque(maxlen=_LOOKS)
        self.senders = 1

    def __repr__(self) -> str:
        return f"SenderCount({self.senders})"

    async def start(self) -> None:
        """Count, then count again every two seconds. Nothing is sent before that, unless no shard answers."""
        await self._look()
        self._tasks.start(self._look_forever(), self.name)

    async def drain(self) -> None:
        """End: what is sent has been sent."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()

    async def _look_forever(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        try:
            others = await self._board.ids(self._role)
        except PostorderError as error:
            log.debug("senders.uncounted", error=str(error))
            return
        self._seen.append(len(others | {self._process_id}))
        senders = max(self._seen)
        if senders == self.senders:
            return
        log.info("senders.counted", before=self.senders, after=senders)
        self.senders = senders
        for slot in self._slots:
            slot.share_among(senders)
