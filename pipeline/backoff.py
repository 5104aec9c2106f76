"""Exponential backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015)."""

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before attempt number `attempt`."""

    base_s: float = 0.5
    factor: float = 2.0
    ceiling_s: float = 30.0

    def bound_s(self, attempt: int) -> float:
        """Return the longest wait in seconds after `attempt` failures (1, 2, …)."""
        # The exponent is capped, because a float overflows long after the ceiling is reached.
        return min(self.ceiling_s, self.base_s * self.factor ** min(attempt - 1, 64))

    def delay_s(self, attempt: int, rng: random.Random | None = None) -> float:
        """Return a wait in seconds, even between 0 and the bound, so that a crowd spreads out."""
        draw = (rng or random).random()
        return self.bound_s(attempt) * draw
