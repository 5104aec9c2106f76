"""How often somebody may ask: a bucket for each caller, the generic cell rate algorithm."""

from typing import Final

from pipeline.clock import Clock

_KEYS_MAX: Final = 10_000
_ROUNDING_S: Final = 1e-9  # a turn that is there but for rounding is there


class RateLimits:
    """Lets each key through `per_s` times a second, and `burst` times at once after a rest.

    Mutable state: for each key the moment when its bucket is full again. Of more than 10,000 keys the one
    that was not heard of for longest is forgotten.
    """

    def __init__(self, *, per_s: float, burst: int, clock: Clock) -> None:
        self._interval_s = 1 / per_s
        self._burst_s = burst / per_s
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"RateLimits({len(self._full_at)} keys)"

    def take(self, key: str) -> float:
        """Take a turn. Return 0, or in how many seconds there is one again."""
        now = self._clock.monotonic()
        full_at = max(now, self._full_at.pop(key, now))  # put back at the end: the order is that of use
        wait_s = full_at + self._interval_s - (now + self._burst_s)
        is_granted = wait_s <= _ROUNDING_S
        self._full_at[key] = full_at + self._interval_s if is_granted else full_at
        if len(self._full_at) > _KEYS_MAX:
            del self._full_at[next(iter(self._full_at))]
        return 0.0 if is_granted else wait_s
