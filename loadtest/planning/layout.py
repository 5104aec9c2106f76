"""How parts lie on machines, and how many that needs: side by side, or each on machines of its own."""

from enum import StrEnum
from math import ceil

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.demand import Demand
from loadtest.planning.loads import Part
from loadtest.planning.placement import even_shards, skew_bound
from pipeline.sharding.slots import SLOT_COUNT

PRIMARY_SHARE_MAX = 0.5
"""Of a shared machine's planned CPU: after a failover one machine holds two primaries."""


_SPLIT_LEAST = 2
"""Machines of a role at least, so that one may be away."""


class Layout(StrEnum):
    """Where the parts run."""

    SHARED = "shared"
    SPLIT = "split"


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """Machines by what is on them, and shards, of all installations together.

    `busy_share` is that of the busiest machine that holds a primary, `busiest_share` that of any machine;
    `skew` the fullest shard over the mean.
    """

    by_role: dict[str, int]
    shards: int
    skew: float
    busy_share: float
    busiest_share: float

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_role.values())


def shards_for(
    primaries: float,
    demand: Demand,
    given: Assumptions,
    *,
    busy_max: float,
    layout: Layout,
    installations: int,
) -> int | None:
    """Return the shards that CPU and disks need, with the uneven spread; None: not to be had from 4096 slots.

    `primaries` is their CPU in cores.
    """
    machine = given.machine
    part = PRIMARY_SHARE_MAX if layout is Layout.SHARED else 1.0
    copies = given.postgresql.copies if layout is Layout.SHARED else 1
    by_cpu = primaries / (machine.cores * busy_max * part)
    by_disk = demand.data_bytes * copies / (machine.disk_gb * 1e9 * machine.disk_fill_max)
    each = max(1, ceil(max(by_cpu, by_disk) / installations))
    # A fuller shard needs room as well: the spread is that of the shards of one installation.
    if each > 1:
        found = _with_room(each, given.utilisation.skew_max)
        if found is None:
            return None
        each = found
    return each * installations


def _with_room(even: int, skew_max: float) -> int | None:
    """Return shards of which the fullest holds no more than one of `even` equal shards would."""
    if even > SLOT_COUNT:
        return None
    count = even_shards(even, skew_max)
    while count is not None and count < even * skew_bound(count):
        count = even_shards(count + 1, skew_max)
    return count


def machines_for(
    cores: dict[Part, float],
    shards: int,
    given: Assumptions,
    *,
    busy_max: float,
    layout: Layout,
    installations: int,
) -> Machines:
    """Return the machines for a load in cores. Brokers need as many nodes as keep a message."""
    skew = skew_bound(ceil(shards / installations))
    if layout is Layout.SPLIT:
        return _split(cores, shards, given, busy_max, installations=installations, skew=skew)
    per_machine = given.machine.cores
    # A machine may hold nodes of several installations' brokers, but only one of each.
    least = max(given.broker.quorum, given.postgresql.copies, shards)
    count = max(least, ceil(sum(cores.values()) / (per_machine * busy_max)))
    # The fullest shard's machine has that much more of the primaries' work than the mean.
    uneven = cores[Part.PRIMARIES] / shards * (skew - 1) if shards else 0.0
    busy = (sum(cores.values()) / count + uneven) / per_machine
    return Machines(
        by_role={"machines": count}, shards=shards, skew=skew, busy_share=busy, busiest_share=busy
    )


def _split(
    cores: dict[Part, float],
    shards: int,
    given: Assumptions,
    busy_max: float,
    *,
    installations: int,
    skew: float,
) -> Machines:
    needed = {
        "broker": cores[Part.BROKER] + cores[Part.FOLLOWERS],
        "PostgreSQL": cores[Part.PRIMARIES],
        "consumers": cores[Part.CONSUMERS],
        "senders": cores[Part.SMS] + cores[Part.MAIL],
    }
    room = given.machine.cores * busy_max
    by_role = {role: max(_SPLIT_LEAST, ceil(busy / room)) if busy else 0 for role, busy in needed.items()}
    nodes = max(given.broker.quorum, ceil(needed["broker"] / installations / room))
    by_role |= {"broker": nodes * installations, "PostgreSQL": shards * given.postgresql.copies}
    holding = by_role | {"PostgreSQL": shards / skew}
    shares = [busy / holding[role] / given.machine.cores for role, busy in needed.items() if busy]
    return Machines(
        by_role=by_role,
        shards=shards,
        skew=skew,
        busy_share=needed["PostgreSQL"] / holding["PostgreSQL"] / given.machine.cores,
        busiest_share=max(shares),
    )
