"""From where on an index by time is looked at, so that what was dealt with long ago is not passed over."""

import time
from datetime import datetime, timedelta
from typing import Final

SLACK: Final = timedelta(seconds=1)
"""How long the transaction that adds a row may take and the row still be found at once."""
NEAR: Final = timedelta(seconds=30)
NEAR_EVERY_S: Final = 10.0
WHOLE_EVERY_S: Final = 600.0


class LowWater:
    """A low-water mark: rows before it were dealt with, but for stragglers.

    A row carries the time at which its transaction began, and is seen when that commits. So a look goes back
    by a slack; every ten seconds one goes back by half a minute, and every ten minutes one looks at all.
    Mutable state: `mark`, None until there is one; when to look back next, by the monotonic clock.
    """

    def __init__(self) -> None:
        self.mark: datetime | None = None
        self._near_at = 0.0
        self._whole_at = 0.0

    def __repr__(self) -> str:
        return f"LowWater({self.mark})"

    def next(self) -> datetime | None:
        """Return from where on to look now; None: look at everything."""
        now = time.monotonic()
        if now >= self._whole_at:
            self._whole_at, self._near_at = now + WHOLE_EVERY_S, now + NEAR_EVERY_S
            return None
        if now >= self._near_at and self.mark is not None:
            self._near_at = now + NEAR_EVERY_S
            return self.mark - NEAR
        return self.mark

    def reached(self, at: datetime) -> None:
        """Say that a look, in order of time, came to a row of this time."""
        self.mark = at - SLACK
