"""What came in before, for a while, so that the same thing sent again is not acted on again."""

from collections import OrderedDict
from typing import NamedTuple

from pipeline.clock import Clock


class _Entry(NamedTuple):
    content: bytes
    until: float


class Replays:
    """Ids and what came under them, at most `kept_max`. Mutable state: `_entries`, the oldest first."""

    def __init__(self, clock: Clock, *, kept_max: int = 100_000, kept_s: float = 86_400.0) -> None:
        self._clock = clock
        self._kept_max = kept_max
        self._kept_s = kept_s
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __repr__(self) -> str:
        return f"Replays({len(self._entries)} ids)"

    def find(self, identity: str) -> bytes | None:
        """Return what came under an id, or None."""
        entry = self._entries.get(identity)
        return entry.content if entry is not None and entry.until > self._clock.monotonic() else None

    def keep(self, identity: str, content: bytes = b"") -> None:
        """Remember an id. Call it once what came is durable, so that a failed try can be repeated."""
        self._entries[identity] = _Entry(content, self._clock.monotonic() + self._kept_s)
        self._entries.move_to_end(identity)
        if len(self._entries) > self._kept_max:
            self._entries.popitem(last=False)
