"""How often something happened lately."""

from typing import Final

_STEPS: Final = 30


class RollingCount:
    """Counts of the last `window_s` seconds, to a thirtieth of it. Constant time and memory.

    Mutable state: `_steps` (a ring of counts), `_step` (the number of the newest), `total`.
    """

    __slots__ = ("_step", "_step_s", "_steps", "total")

    def __init__(self, window_s: float, now: float) -> None:
        self._step_s = window_s / _STEPS
        self._steps = [0] * _STEPS
        self._step = int(now / self._step_s)
        self.total = 0

    def add(self, now: float) -> None:
        """Count something that happens now. `now`: seconds, never less than before."""
        self._advance(now)
        self._steps[self._step % _STEPS] += 1
        self.total += 1

    def withdraw(self, at: float, now: float) -> None:
        """Take back what was counted at a time, if it still counts."""
        self._advance(now)
        step = int(at / self._step_s)
        if self._step - step < _STEPS:
            self._steps[step % _STEPS] -= 1
            self.total -= 1

    def read(self, now: float) -> int:
        """Return the count of the window that ends now."""
        self._advance(now)
        return self.total

    def clear(self) -> None:
        """Forget everything."""
        self._steps = [0] * _STEPS
        self.total = 0

    def _advance(self, now: float) -> None:
        step = int(now / self._step_s)
        if step == self._step:
            return
        if step - self._step >= _STEPS:
            self.clear()
        else:
            for passed in range(self._step + 1, step + 1):
                self.total -= self._steps[passed % _STEPS]
                self._steps[passed % _STEPS] = 0
        self._step = step
