"""Between which floors and ceilings an allocator decides, and when."""

import msgspec


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers get: how many they are, what each may hold unsettled, how large its batches may be."""

    workers: int
    prefetch: int
    batch_max: int


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Floor and ceiling of each lever; times in seconds, shares from 0 to 1.

    `work_s`: more than so much work is a backlog. `cpu_high`: of a core; busier workers are too few.
    `cpu_low`: one worker goes when the others would be no busier than that. `machine_high`: above it, more
    processes would only take turns. `write_s`: a transaction takes no longer than that. `grow_after_s`,
    `shrink_after_s`: for how long there must be a reason for more, or for less. `settle_s`: from one change
    to the next.
    """

    floor: Allocation
    ceiling: Allocation
    work_s: float = 1.0
    cpu_high: float = 0.8
    cpu_low: float = 0.5
    machine_high: float = 0.9
    write_s: float = 0.25
    grow_after_s: float = 6.0
    shrink_after_s: float = 60.0
    settle_s: float = 10.0

    def within(self, allocation: Allocation) -> Allocation:
        """Return the allocation, brought between floor and ceiling."""
        return Allocation(
            workers=min(self.ceiling.workers, max(self.floor.workers, allocation.workers)),
            prefetch=min(self.ceiling.prefetch, max(self.floor.prefetch, allocation.prefetch)),
            batch_max=min(self.ceiling.batch_max, max(self.floor.batch_max, allocation.batch_max)),
        )
