"""From where on an index by time is looked at, so that what was dealt with long ago is not passed over."""

import time
from datetime import datetime, timedelta
from typing import Final, Literal

SLACK: Final = timedelta(seconds=1)
"""How long the transaction that adds a row may take and the row still be found at once."""
NEAR: Final = timedelta(seconds=30)
NEAR_EVERY_S: Final = 10.0
WHOLE_EVERY_S: Final = 600.0
WHOLE_AGAIN_S: Final = 30.0
"""After a look at everything that failed, as by its time-out: in between, what is new must be found."""
_ANEW: Final = 2


class LowWater:
    """A low-water mark: rows before it were dealt with, but for stragglers.

    A row carries the time at which its transaction began, and is seen when that commits. So a look goes back
    by a slack; every ten seconds one goes back by half a minute, and every ten minutes one looks at all.
    A look counts when it has succeeded. Mutable state: `mark`, None until there is one; when to look back
    next, by the monotonic clock; what the look under way is; how many looks at everything are still wanted.
    """

    def __init__(self) -> None:
        self.mark: datetime | None = None
        self._near_at = 0.0
        self._whole_at = 0.0
        self._wholes = _ANEW
        self._look: Literal["on", "near", "whole"] = "on"

    def __repr__(self) -> str:
        return f"LowWater({self.mark})"

    def next(self) -> datetime | None:
        """Return from where on to look now; None: look at everything. Call `looked` when that is done."""
        now = time.monotonic()
        if now >= self._whole_at:
            self._look, self._whole_at = "whole", now + WHOLE_AGAIN_S
            return None
        if now >= self._near_at and self.mark is not None:
            self._look = "near"
            return self.mark - NEAR
        self._look = "on"
        return self.mark

    def looked(self, at: datetime | None) -> None:
        """Say that the look has succeeded; in order of time, it came to a row of `at`. None: to none."""
        now = time.monotonic()
        if self._look != "on":
            self._near_at = now + NEAR_EVERY_S
        if self._look == "whole":
            self._wholes -= 1
            self._whole_at = now + (NEAR_EVERY_S if self._wholes > 0 else WHOLE_EVERY_S)
        if at is not None:
            self.mark = at - SLACK

    def look_anew(self) -> None:
        """Have the next look be at everything, and the one after ten seconds too.

        What came to a standstill for longer than half a minute and goes on now becomes visible in any order,
        and the first look may have been before the last of it.
        """
        self._whole_at = 0.0
        self._wholes = _ANEW
