"""How often messages may be tried again, so that a provider in trouble is not hit harder than before."""

from typing import Final

from pipeline.notifications.pools.rolling_count import RollingCount

_MINUTE_S: Final = 60.0


class RetryBudget:
    """Tries again of one channel: at most `share` of the first tries of the last minute, plus `least`.

    A try that succeeds costs nothing: the message had to go out anyway. So the budget only bites while tries
    fail, and what an outage held up drains at full speed. Mutable state: `_first` and `_again`.
    """

    def __init__(self, *, share: float, least: int, now: float) -> None:
        self._share = share
        self._least = least
        self._first = RollingCount(_MINUTE_S, now)
        self._again = RollingCount(_MINUTE_S, now)

    def __repr__(self) -> str:
        return f"RetryBudget({self._again.total} of {self._first.total} tries)"

    @property
    def remaining(self) -> float:
        """How many tries again the budget held when it was looked at last."""
        return self._share * self._first.total + self._least - self._again.total

    def left(self, now: float) -> float:
        """Return how many tries again the budget still holds."""
        self._first.read(now)
        self._again.read(now)
        return self.remaining

    def begin(self, attempt: int, now: float) -> bool:
        """Count a try, the `attempt`th of its message (1, 2, …); False: nothing is left for it."""
        if attempt <= 1:
            self._first.add(now)
            return True
        if self.left(now) < 1:
            return False
        self._again.add(now)
        return True

    def not_made(self, attempt: int, began: float, now: float) -> None:
        """Take back a try that was not made after all."""
        (self._first if attempt <= 1 else self._again).withdraw(began, now)

    def give_back(self, began: float, now: float) -> None:
        """Return what a try again cost that has succeeded."""
        self._again.withdraw(began, now)
