"""What an allocator sees when it decides."""

from typing import Final, Literal

import msgspec

_FULL_SHARE: Final = 0.9
_WORK_S_MAX: Final = 86_400.0
_RATE_MIN: Final = 1.0
"""Events per second: what stands still is taken to do one, so that a few events are no emergency."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """How sending on a channel goes, over all workers.

    `waiting`: messages claimed that nobody has begun. `calls`: under way. `limit`: calls at once that the
    providers take at the moment. `is_held`: a circuit is open, or since the last look messages were given
    back because of a rate limit or because a provider asked to be left alone.
    """

    name: Literal["sms", "email"]
    waiting: int = 0
    calls: int = 0
    limit: int = 0
    is_held: bool = False

    @property
    def is_full(self) -> bool:
        """Whether about all the calls are made that the providers take."""
        return self.limit > 0 and self.calls >= _FULL_SHARE * self.limit


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """The pipeline at one moment, and what it did since the last one.

    `at_s`: of a monotonic clock. `ready`: messages in the queues, None when the broker does not say. `held`:
    taken from the broker and not settled. `settled_per_s`: events made durable, by all workers. `running`:
    workers that were up at both looks. `worker_cpu`: of one core, the mean of the workers. `machine_cpu`: the
    share of all CPUs that is busy. `window_used`: unsettled deliveries as a share of what the prefetch
    allows, of the queue with most. `lanes`: batches that wait in the fullest lane. `batch_fill`: events of a
    batch as a share of the most it may have. `write_s`: a transaction's mean time; None: there was none.
    """

    at_s: float
    running: int
    ready: int | None = 0
    held: int = 0
    settled_per_s: float = 0.0
    worker_cpu: float = 0.0
    machine_cpu: float = 0.0
    window_used: float = 0.0
    lanes: float = 0.0
    batch_fill: float = 0.0
    write_s: float | None = None
    channels: tuple[Channel, ...] = ()

    @property
    def waiting(self) -> int:
        """Events that wait, here and at the broker."""
        return (self.ready or 0) + self.held

    @property
    def work_s(self) -> float:
        """For how long that keeps the workers busy, by what they do now; a day at most."""
        return min(_WORK_S_MAX, self.waiting / max(_RATE_MIN, self.settled_per_s))
