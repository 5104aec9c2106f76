"""A circuit breaker: a provider that fails is left alone for a while, then tried with one message."""

from enum import IntEnum

from pipeline.notifications.pools.rolling_count import RollingCount
from pipeline.settings import PoolSettings


class Circuit(IntEnum):
    """Where a breaker stands; the numbers are those of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Opens when enough of the calls of a window fail; closes when a single probe does not.

    Times are seconds of a clock that only grows. Mutable state: `circuit`, `_opened_until`, `_open_s` (for
    how long the next time), `_is_probing`, the counts of calls and failures.
    """

    def __init__(self, settings: PoolSettings, now: float) -> None:
        self._settings = settings
        self._calls = RollingCount(settings.breaker_window_s, now)
        self._failures = RollingCount(settings.breaker_window_s, now)
        self._open_s = settings.breaker_open_s
        self._opened_until = now
        self._is_probing = False
        self.circuit = Circuit.CLOSED

    def __repr__(self) -> str:
        return f"Breaker({self.circuit.name.lower()}, {self._failures.total} of {self._calls.total} failed)"

    def closed_for_s(self, now: float) -> float:
        """Return for how many seconds no call may begin; 0: one may. Ends the time of an open circuit."""
        if self.circuit is Circuit.OPEN:
            if now < self._opened_until:
                return self._opened_until - now
            self.circuit = Circuit.HALF_OPEN
        return 0.0

    @property
    def takes_one(self) -> bool:
        """Whether a single message is wanted, to see whether the provider is back."""
        return self.circuit is Circuit.HALF_OPEN

    @property
    def wants_probe(self) -> bool:
        """Whether it is wanted, and nobody is at it yet."""
        return self.circuit is Circuit.HALF_OPEN and not self._is_probing

    def begin(self, now: float) -> bool | None:
        """Begin a call: return whether it is a probe; None: no call may begin. Each is ended once."""
        if self.circuit is Circuit.CLOSED:
            return False
        if self.closed_for_s(now) or self._is_probing:
            return None
        self._is_probing = True
        return True

    def succeeded(self, now: float, *, is_probe: bool) -> None:
        """End a call that the provider answered, be it with a refusal of this message."""
        if is_probe:
            self._is_probing = False
            self._close()
        elif self.circuit is Circuit.CLOSED:
            self._calls.add(now)

    def failed(self, now: float, *, is_probe: bool) -> None:
        """End a call that failed by the provider's fault."""
        if is_probe:
            self._is_probing = False
            self._open(now, self._open_s)
        elif self.circuit is Circuit.CLOSED:
            self._calls.add(now)
            self._failures.add(now)
            calls, failures = self._calls.total, self._failures.read(now)
            settings = self._settings
            if calls >= settings.breaker_calls_min and failures >= settings.breaker_failure_ratio * calls:
                self._open(now, self._open_s)

    def refused(self, now: float, *, is_probe: bool) -> None:
        """End a call whose account was refused: no other call would fare better."""
        if is_probe:
            self._is_probing = False
        if is_probe or self.circuit is Circuit.CLOSED:
            self._open(now, self._settings.breaker_open_max_s)

    def abandoned(self, *, is_probe: bool) -> None:
        """End a call that says nothing of the provider: not made, or cut off by us."""
        if is_probe:
            self._is_probing = False

    def _open(self, now: float, for_s: float) -> None:
        self.circuit = Circuit.OPEN
        self._opened_until = now + for_s
        self._open_s = min(2 * self._open_s, self._settings.breaker_open_max_s)

    def _close(self) -> None:
        self.circuit = Circuit.CLOSED
        self._open_s = self._settings.breaker_open_s
        self._calls.clear()
        self._failures.clear()
