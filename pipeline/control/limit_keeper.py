"""Has the limits that operators set count in this process, within a second or two.

It looks by itself once a second at the first home that answers: a statement of a few rows. A notice would
come sooner, and would need one more connection to each home from each process.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import structlog

from pipeline.clock import Clock
from pipeline.control.limit_board import LimitBoard, Limits, missing
from pipeline.control.limit_ranges import CONCURRENCY, RATE, LimitRange
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.storage.control import AppliedLimit

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
_SURVEY_S: Final = 30.0
_AGAIN_S: Final = 5.0  # a home that is behind and takes no writes is not asked about each second


class Limited(Protocol):
    """What is limited: a provider behind its pool."""

    name: str

    def limit_to(self, *, concurrency: int, rate_per_s: float) -> None:
        """Have so many calls at once at most, and messages in a second; 0: no limit but the settings'."""


class LimitKeeper:
    """A service, started before whatever it limits.

    What it has learned counts on while no shard answers, and no older copy takes its place. Mutable state:
    `_limits` (the newest known), `_ends` (when those with an end are over, by the clock that only grows),
    `_applied` (what counts now), `_surveyed_at`.
    """

    name = "limits"

    def __init__(
        self,
        board: LimitBoard,
        ranges: Mapping[str, LimitRange],
        slots: Iterable[Limited],
        *,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._board = board
        self._ranges = ranges
        self._slots = tuple(slots)
        self._clock = clock
        self._tasks = tasks
        self._limits: Limits = {}
        self._ends: dict[str, float] = {}
        self._applied: dict[str, float] = {}
        self._surveyed_at = float("-inf")

    def __repr__(self) -> str:
        return f"LimitKeeper({', '.join(f'{key}={value:g}' for key, value in self._applied.items())})"

    async def start(self) -> None:
        """Learn the limits, then look for changes. Nothing is sent before that, unless no shard answers."""
        await self._look()
        self._tasks.start(self._look_forever(), self.name)

    async def drain(self) -> None:
        """End: what is sent has been sent."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()

    def applied(self) -> tuple[AppliedLimit, ...]:
        """Return the limits that count in this process instead of the settings'."""
        now = self._clock.monotonic()
        return tuple(
            AppliedLimit(
                key=key,
                asked=asked,
                applied=value,
                set_by=limit.set_by,
                version=limit.version,
                left_s=self._ends[key] - now if key in self._ends else None,
            )
            for key, value in sorted(self._applied.items())
            if (limit := self._limits[key]) and (asked := limit.value) is not None
        )

    async def _look_forever(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        """Learn what has changed, and apply it; what is over ends although no shard answers."""
        try:
            if self._since_survey_s() >= _SURVEY_S:
                await self._survey()
            else:
                seen = await self._board.look()
                self._learn(seen)
                if missing(self._limits, seen.values()) and self._since_survey_s() >= _AGAIN_S:
                    await self._survey()
        except PostorderError as error:
            log.debug("limits.unread", error=str(error))
        self._apply()

    def _since_survey_s(self) -> float:
        return self._clock.monotonic() - self._surveyed_at

    async def _survey(self) -> None:
        self._learn(await self._board.survey(self._limits))
        self._surveyed_at = self._clock.monotonic()

    def _learn(self, seen: Limits) -> None:
        now = self._clock.monotonic()
        for key, limit in seen.items():
            known = self._limits.get(key)
            if known is not None and limit.rank <= known.rank:
                continue
            self._limits[key] = limit
            self._ends.pop(key, None)
            if limit.left_s is not None:
                self._ends[key] = now + limit.left_s

    def _apply(self) -> None:
        now = self._clock.monotonic()
        applied = {
            key: self._ranges[key].applied(limit.value)
            for key, limit in self._limits.items()
            if key in self._ranges and limit.value is not None and self._ends.get(key, now + 1) > now
        }
        if applied == self._applied:
            return
        for key in sorted(applied.keys() | self._applied.keys()):
            before, after = self._applied.get(key), applied.get(key)
            if before != after:
                version = self._limits[key].version
                log.info("limits.applied", key=key, before=before, after=after, version=version)
        self._applied = applied
        for slot in self._slots:
            key = f"{slot.name}.{CONCURRENCY}"
            concurrency = applied.get(key, self._ranges[key].normal)
            rate_per_s = applied.get(f"{slot.name}.{RATE}", 0.0)
            slot.limit_to(concurrency=int(concurrency), rate_per_s=rate_per_s)
