"""A rate limit: tokens trickle into a bucket, and each message takes one."""

from typing import Final

_BURST_S: Final = 0.05
_ROUNDING: Final = 1e-9  # a token that is there but for rounding is there


class TokenBucket:
    """Lets `rate_per_s` through, and no more than `rate_per_s + burst` in any one second.

    `burst` is what came in during the last 50 ms, but at least one. Times are seconds of a clock that only
    grows. Mutable state: the rate, `_tokens`, and when they were counted.
    """

    __slots__ = ("_counted_at", "_tokens", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, now: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = max(1.0, rate_per_s * _BURST_S)
        self._tokens = self.burst
        self._counted_at = now

    def retune(self, rate_per_s: float, now: float) -> None:
        """Have another rate from now on; what is in the bucket stays, as far as it fits."""
        self._count(now)
        self.rate_per_s = rate_per_s
        self.burst = max(1.0, rate_per_s * _BURST_S)
        self._tokens = min(self._tokens, self.burst)

    def take(self, now: float) -> bool:
        """Take a token; False when there is none."""
        self._count(now)
        if self._tokens < 1 - _ROUNDING:
            return False
        self._tokens -= 1
        return True

    def put_back(self) -> None:
        """Return a token that was taken for nothing."""
        self._tokens = min(self.burst, self._tokens + 1)

    def wait_s(self, now: float) -> float:
        """Return in how many seconds the next token is there; 0: it is."""
        self._count(now)
        return 0.0 if self._tokens >= 1 - _ROUNDING else (1 - self._tokens) / self.rate_per_s

    def _count(self, now: float) -> None:
        self._tokens = min(self.burst, self._tokens + (now - self._counted_at) * self.rate_per_s)
        self._counted_at = now
