"""Which events are traced.

What upstream has sampled is, and what upstream has not sampled is not: a trace is whole or absent. Of orders
that come without a trace, a share is, chosen by the order's id: so its invoice, and a copy that comes again,
are in the same trace, and every process decides alike without asking another.
"""

from pipeline.clock import Clock
from pipeline.observability.trace_metrics import TraceMetrics

_THRESHOLD_BYTES = 6  # of the digest; the two after them say the slot


class Sampler:
    """Decides. Mutable state: the second that runs, and how many events were traced in it."""

    def __init__(self, *, ratio: float, per_s_max: int, metrics: TraceMetrics, clock: Clock) -> None:
        self._per_s_max = per_s_max
        self._held_back = metrics.held_back
        self._clock = clock
        self._second = 0
        self._admitted = 0
        limit = round(ratio * 256**_THRESHOLD_BYTES)
        # Compared as bytes, which sort as the numbers do; all that begins below it is traced.
        self.threshold = (
            b"\xff" * 17 if limit >= 256**_THRESHOLD_BYTES else limit.to_bytes(_THRESHOLD_BYTES, "big")
        )

    def __repr__(self) -> str:
        return f"Sampler({self._admitted} of {self._per_s_max} in this second)"

    def admit(self) -> bool:
        """Return whether one more event may be traced in this second. One that may not is counted."""
        second = int(self._clock.monotonic())
        if second != self._second:
            self._second, self._admitted = second, 0
        if self._admitted >= self._per_s_max:
            self._held_back.inc()
            return False
        self._admitted += 1
        return True
