"""A cap on neighbouring numbers: whoever makes money from SMS to his own numbers has a block of them."""

from collections import OrderedDict
from typing import NamedTuple

from pipeline.clock import Clock

PREFIX_CHARS = 8  # the plus and seven digits
_WINDOW_S = 3600.0


class _Tally(NamedTuple):
    window: int
    segments: int
    before: int


class PrefixCap:
    """Counts segments by prefix over the last hour, about: the hour before counts by what is left of it.

    In memory, of this process alone. Mutable state: `_tallies`, the least recently used first; there are
    `prefixes_max` at most, and the one unused for longest is forgotten.
    """

    def __init__(self, cap: int, clock: Clock, *, prefixes_max: int = 50_000) -> None:
        self._cap = cap
        self._clock = clock
        self._prefixes_max = prefixes_max
        self._tallies: OrderedDict[str, _Tally] = OrderedDict()

    def __repr__(self) -> str:
        return f"PrefixCap({len(self._tallies)} prefixes)"

    def is_reached(self, number: str) -> bool:
        """Tell whether numbers that begin like one in E.164 have had enough."""
        if not self._cap or number[:PREFIX_CHARS] not in self._tallies:
            return False
        tally, passed = self._tally(number)
        return tally.segments + tally.before * (1 - passed) >= self._cap

    def add(self, number: str, segments: int) -> None:
        """Count segments that were sent to a number."""
        if not self._cap:
            return
        tally, _ = self._tally(number)
        self._tallies[number[:PREFIX_CHARS]] = tally._replace(segments=tally.segments + segments)
        self._tallies.move_to_end(number[:PREFIX_CHARS])
        if len(self._tallies) > self._prefixes_max:
            self._tallies.popitem(last=False)

    def _tally(self, number: str) -> tuple[_Tally, float]:
        """Return the tally of a number's prefix as of now, and how much of its hour has passed (0 to 1)."""
        window, seconds = divmod(self._clock.monotonic(), _WINDOW_S)
        passed = seconds / _WINDOW_S
        tally = self._tallies.get(number[:PREFIX_CHARS])
        if tally is None or tally.window < window - 1:
            return _Tally(int(window), 0, 0), passed
        if tally.window < window:
            return _Tally(int(window), 0, tally.segments), passed
        return tally, passed
