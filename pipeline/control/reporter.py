"""A process says every two seconds how it is, beside its work and never in its way."""

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import psutil
import structlog

from pipeline.clock import Clock
from pipeline.control.report_board import ReportBoard
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.storage.control import ProcessName, Report

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 2.0
_TICK_S: Final = 0.25  # how often the event loop's lag is measured

Counts = Callable[[], Mapping[str, float]]
"""Returns counters that only grow, by the name of their rate."""


def this_process(roles: Iterable[str]) -> ProcessName:
    """Return the name of this process. Another one with its number on its host began at another time."""
    host, pid = socket.gethostname(), os.getpid()
    began = psutil.Process().create_time()
    return ProcessName(
        f"{host}:{pid}:{began:.3f}", host, pid, datetime.fromtimestamp(began, UTC), tuple(sorted(roles))
    )


class Reporter:
    """A service. `parts`: what fills which field of the report; `extra`: what goes below its `extra`.

    The most downstream one: it reports until everything else has drained. Mutable state: `_counted` and
    `_counted_at` (the counters of the last report), `_cpu_s`, `_has_written`, `_is_away`.
    """

    name = "process report"

    def __init__(
        self,
        board: ReportBoard,
        process: ProcessName,
        *,
        counts: Counts,
        parts: Mapping[str, Callable[[], Any]],
        extra: Mapping[str, Callable[[], Any]],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._board = board
        self._process = process
        self._counts = counts
        self._parts = parts
        self._extra = extra
        self._clock = clock
        self._tasks = tasks
        self._self = psutil.Process()
        self._counted: Mapping[str, float] = {}
        self._counted_at = clock.monotonic()
        self._cpu_s = 0.0
        self._has_written = False
        self._is_away = False

    def __repr__(self) -> str:
        return f"Reporter({self._process.process_id}{', nobody takes it' if self._is_away else ''})"

    async def start(self) -> None:
        """Begin to report, at once and then every two seconds."""
        self._counted, self._counted_at = dict(self._counts()), self._clock.monotonic()
        self._cpu_s = self._used_s()
        self._tasks.start(self._report_forever(), self.name)

    async def drain(self) -> None:
        """Do nothing: how a process drains is worth knowing."""

    async def stop(self) -> None:
        """End, and take the report off, so that nobody waits for the next one."""
        await self._tasks.cancel()
        if self._has_written:
            self._has_written = False
            try:
                await self._board.forget(self._process.process_id)
            except PostorderError as error:  # it is forgotten in ten minutes
                log.debug("report.left", error=str(error))

    async def _report_forever(self) -> None:
        lag_s = 0.0
        while True:
            try:
                await self._write(self.report(lag_s))
            except Exception as error:  # nobody stops working because of what is said of it
                log.error("report.defect", exc_info=error)
            lag_s = await self._rest()

    async def _rest(self) -> float:
        """Wait for the next report; return by how much the event loop was late at most, in seconds."""
        until, lag_s = self._clock.monotonic() + INTERVAL_S, 0.0
        while (now := self._clock.monotonic()) < until:
            tick_s = min(_TICK_S, until - now)
            await self._clock.sleep(tick_s)
            lag_s = max(lag_s, self._clock.monotonic() - now - tick_s)
        return lag_s

    async def _write(self, report: Report) -> None:
        try:
            await self._board.write(self._process, report)
        except PostorderError as error:
            if not self._is_away:  # once, not every two seconds
                log.warning("report.unwritten", error=str(error))
            self._is_away = True
        else:
            self._is_away, self._has_written = False, True

    def report(self, lag_s: float = 0.0) -> Report:
        """Return how the process is now. Rates are since the last call."""
        now, counts, cpu_s = self._clock.monotonic(), dict(self._counts()), self._used_s()
        passed_s = max(now - self._counted_at, 1e-3)
        rates = {
            name: round((count - self._counted.get(name, 0.0)) / passed_s, 3)
            for name, count in counts.items()
        }
        cores = round((cpu_s - self._cpu_s) / passed_s, 3)
        self._counted, self._counted_at, self._cpu_s = counts, now, cpu_s
        with self._self.oneshot():
            rss_bytes, threads = self._self.memory_info().rss, self._self.num_threads()
        return Report(
            rates=rates,
            loop_lag_s=round(lag_s, 4),
            cpu_cores=cores,
            rss_bytes=rss_bytes,
            threads=threads,
            extra={name: supply() for name, supply in self._extra.items()},
            **{name: supply() for name, supply in self._parts.items()},
        )

    def _used_s(self) -> float:
        times = self._self.cpu_times()
        return float(times.user + times.system)
