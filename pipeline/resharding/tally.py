"""What a coordinator has measured so far, and how large its next group is."""

import msgspec

from pipeline.resharding.group_flip import Flipped
from pipeline.storage.checksums import Differences

_QUICK_S, _SLOW_S = 0.15, 0.45  # of a pause: the next group is larger, or smaller
_GROUP_MAX = 128


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a change came to: slots flipped by this process, how long each group was paused, and the diffs."""

    slots: int
    stalls_ms: tuple[float, ...]
    differences: Differences

    @property
    def stall_ms_max(self) -> float:
        """The longest pause of a group."""
        return max(self.stalls_ms, default=0.0)


class Tally:
    """Mutable state: all of it. `group_slots`: how many slots to flip together next."""

    def __init__(self, group_slots: int) -> None:
        self.group_slots = group_slots
        self.flipped = 0
        self._stalls_ms: list[float] = []
        self._differences = Differences(slots=0, rows=0)

    @property
    def outcome(self) -> Outcome:
        """What was done so far."""
        return Outcome(slots=self.flipped, stalls_ms=tuple(self._stalls_ms), differences=self._differences)

    @property
    def last_stall_ms(self) -> float:
        """How long the group flipped last was paused."""
        return self._stalls_ms[-1] if self._stalls_ms else 0.0

    def add(self, slots: int, done: Flipped) -> None:
        """Count a group, and let the next one be as large as its pause allows."""
        self.flipped += slots
        self._stalls_ms.append(round(done.stall_s * 1e3, 1))
        self._differences = self._differences.plus(done.differences)
        if done.stall_s > _SLOW_S:
            self.shrink()
        elif done.stall_s < _QUICK_S:
            self.group_slots = min(_GROUP_MAX, self.group_slots * 2)

    def shrink(self) -> None:
        """Flip fewer slots together: it took too long, or failed."""
        self.group_slots = max(1, self.group_slots // 2)
