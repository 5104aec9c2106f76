"""How long what waits for a stage would keep it busy."""

from math import exp
from typing import Final

SECONDS_MAX: Final = 86_400.0
"""A day. More is not told apart: the answer is the same."""
RATE_MIN: Final = 0.01
"""A stage that stands still is taken to do one in 100 s."""
_MEMORY_S: Final = 30.0
_INTERVAL_MIN_S: Final = 0.1  # a rate over less says nothing


class Stage:
    """What waits for a stage, and what it was seen to do in a second.

    While something waits at both ends of an interval, the stage is at its limit, and what it does then is
    what it can do: an average that forgets with a time constant of 30 s. Otherwise it can do at least what it
    did. Mutable state: `backlog`, what waited last; `capacity`, per second, None as long as nothing was
    measured; and the last look.
    """

    def __init__(self) -> None:
        self.backlog = 0
        self.capacity: float | None = None
        self._looked_at: float | None = None
        self._done = 0.0

    def __repr__(self) -> str:
        return f"Stage({self.backlog} waiting, {self.capacity} a second)"

    @property
    def seconds(self) -> float | None:
        """Seconds of work that wait; None: that cannot be told yet. Never NaN, a day at most."""
        if not self.backlog:
            return 0.0
        if self.capacity is None:
            return None
        return min(self.backlog / max(self.capacity, RATE_MIN), SECONDS_MAX)

    def look(self, at_s: float, backlog: int, done: float, *, times: int = 1) -> None:
        """Note what waits at a time of the monotonic clock, and how much was done since the beginning.

        `times`: how many do as much of it as is counted here.
        """
        before, done_before = self._looked_at, self._done
        if before is None:
            self._looked_at, self._done, self.backlog = at_s, done, backlog
        elif at_s - before >= _INTERVAL_MIN_S:
            self._done = done
            self.saw(at_s, backlog, times * max(0.0, done - done_before) / (at_s - before))

    def saw(self, at_s: float, backlog: int, rate: float) -> None:
        """Note what waits, and how much was done in each second of late."""
        before, was_busy = self._looked_at, self.backlog > 0
        self._looked_at, self.backlog = at_s, backlog
        if was_busy and backlog and before is not None:
            known = rate if self.capacity is None else self.capacity
            self.capacity = rate + (known - rate) * exp((before - at_s) / _MEMORY_S)
        elif rate:
            self.capacity = max(rate, self.capacity or 0.0)
