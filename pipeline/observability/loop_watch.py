"""Watches the event loop: how late it comes round, and since when it has not."""

import time
from asyncio import sleep
from typing import Final

from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics

_TICK_S: Final = 0.25
_TICKS_PER_LOOK: Final = 20


class LoopWatch:
    """Comes round four times a second, and has `metrics.looks` done every five seconds.

    Mutable state: `_came_round_at`, of the monotonic clock; read by the thread of the ops port.
    """

    def __init__(self, metrics: Metrics, tasks: Tasks) -> None:
        self._metrics = metrics
        self._tasks = tasks
        self._came_round_at = time.monotonic()
        metrics.loop_idle.set_function(self.idle_s)

    def __repr__(self) -> str:
        return f"LoopWatch(idle for {self.idle_s():.1f} s)"

    def idle_s(self) -> float:
        """Return for how many seconds the loop has not come round. May be called by any thread."""
        return max(0.0, time.monotonic() - self._came_round_at)

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._came_round_at = time.monotonic()
        self._tasks.start(self._watch(), "event loop watch")

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()

    async def _watch(self) -> None:
        ticks = 0
        while True:
            due_at = time.monotonic() + _TICK_S
            await sleep(_TICK_S)
            self._came_round_at = time.monotonic()
            self._metrics.loop_lag.observe(max(0.0, self._came_round_at - due_at))
            ticks += 1
            if ticks % _TICKS_PER_LOOK == 0:
                for look in self._metrics.looks:
                    look()
