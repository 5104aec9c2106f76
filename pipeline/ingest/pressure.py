"""Back-pressure: above the high mark the consumers stop reading, below the low mark they go on."""

from collections.abc import Callable


class Pressure:
    """Counts the events between broker and shards. Mutable state: `_held` and `_paused`.

    The prefetch bounds messages, but one message may carry thousands of events: this bounds events.
    """

    def __init__(self, *, high: int) -> None:
        self._high = high
        self._low = high // 2
        self._held = 0
        self._paused = False
        self._listeners: list[Callable[[bool], None]] = []

    def __repr__(self) -> str:
        return f"Pressure({self._held} of {self._high} held{', paused' if self._paused else ''})"

    @property
    def held(self) -> int:
        """How many events are held."""
        return self._held

    @property
    def high(self) -> int:
        """How many events may be held before reading stops."""
        return self._high

    @property
    def paused(self) -> bool:
        """Whether the consumers should not read."""
        return self._paused

    def subscribe(self, on_change: Callable[[bool], None]) -> None:
        """Call `on_change` with True to pause and with False to go on."""
        self._listeners.append(on_change)

    def add(self, events: int) -> None:
        """Note events taken in. O(1)."""
        self._held += events
        if self._held >= self._high and not self._paused:
            self._change(paused=True)

    def remove(self, events: int) -> None:
        """Note events settled. O(1)."""
        self._held -= events
        if self._paused and self._held <= self._low:
            self._change(paused=False)

    def _change(self, *, paused: bool) -> None:
        self._paused = paused
        for on_change in self._listeners:
            on_change(paused)
