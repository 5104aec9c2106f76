"""How quickly one server answers, from its latest answers."""

import math

_WINDOW = 256
_RENEWED_EVERY = 16
_SHARE_OF_NEW = 0.1


class Latency:
    """The latest answers of one server in a ring of fixed size. Seconds throughout.

    A percentile of the latest 256 answers, not a sketch of all: what matters is how the server does now, and
    a sorted copy once in 16 answers costs less than a digest's update.
    """

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._ring: list[float] = []
        self._next = 0
        self._sorted: list[float] = []
        self._unsorted = 0
        self._mean_s = 0.0
        self._at = 0.0

    def __repr__(self) -> str:
        return f"Latency({len(self._ring)} answers, mean {self._mean_s * 1e3:.1f} ms)"

    def observe(self, took_s: float, now: float) -> None:
        """Take an answer's time, or the time after which none was awaited any more."""
        if len(self._ring) < _WINDOW:
            self._ring.append(took_s)
        else:
            self._ring[self._next] = took_s
            self._next = (self._next + 1) % _WINDOW
        self._unsorted += 1
        known = self.recent_s(now) if self._at else took_s
        self._mean_s = known + _SHARE_OF_NEW * (took_s - known)
        self._at = now

    def recent_s(self, now: float) -> float:
        """Return a moving mean. It fades while nothing is observed, so that a server is tried again."""
        half_lives: float = (now - self._at) / self._half_life_s
        return self._mean_s * math.pow(0.5, half_lives)

    def percentile_s(self, share: float) -> float | None:
        """Return a percentile of the latest answers; None while there are too few."""
        if self._unsorted >= _RENEWED_EVERY:
            self._sorted, self._unsorted = sorted(self._ring), 0
        if not self._sorted:
            return None
        return self._sorted[math.ceil(share * len(self._sorted)) - 1]
