"""The search: installations, linger time and utilisation that serve a demand with the fewest machines.

An *installation* is one broker cluster with its shards and its map. One is enough until its queues or its
primaries' connections are full; then upstream shares orders out to several, by order id.
"""

from collections.abc import Iterator
from itertools import product
from math import ceil

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.latency import p99_s
from loadtest.planning.layout import Layout, Machines, machines_for, shards_for
from loadtest.planning.loads import Part, cores_busy, formed_batch, transaction_s
from loadtest.planning.recovery import ShardDown, shard_down
from loadtest.planning.sending import PROCESSES_MIN

_ROUNDS = 60
_CPU_FOR_LATENCY = 1.1
_MORE_MACHINES, _MACHINES_BESIDES = 1.3, 2
_BUSY_STEP = 0.05
_BUSY_MOST = 0.98  # a round of the search may be above what can be; the last one is not
_TIMES = (1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """One way to serve the demand, all figures of all installations together unless said otherwise.

    `consumers` and `connections` (of one primary) are of one installation. `batch`: events in a transaction.
    """

    installations: int
    linger_ms: float
    batch: float
    consumers: int
    connections: int
    cores: dict[Part, float]
    machines: Machines
    p99_s: float
    down: ShardDown


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why one way does not serve the demand. The most telling has the highest `rank`."""

    rank: int
    reason: str


def queue_per_s(demand: Demand, costs: CostVector, given: Assumptions) -> float:
    """Return the events per second that one quorum queue takes in.

    Its leader is one process of the broker. How much of the broker's CPU is its is not measured, so all of it
    is counted.
    """
    events = demand.events_per_message
    message_us = costs.broker_event_us.value * events + costs.broker_message_us.value
    return given.broker.queue_share_max * 1e6 / message_us * events


def find_sizing(demand: Demand, costs: CostVector, given: Assumptions, layout: Layout) -> Sizing | Refusal:
    """Return the best way of those there are, or why there is none."""
    fullest = max(demand.orders_per_s, demand.invoices_per_s)
    fewest = max(1, ceil(fullest / queue_per_s(demand, costs, given)))
    counts = sorted({ceil(fewest * times) for times in _TIMES})
    found: list[Sizing] = []
    refused: list[Refusal] = []
    for installations, linger_ms in product(counts, given.settings.lingers_ms):
        one = _least_busy_needed(demand, costs, given, layout, installations, linger_ms)
        (found if isinstance(one, Sizing) else refused).append(one)  # type: ignore[arg-type]
    if not found:
        return max(refused, key=lambda refusal: refusal.rank)
    return _best(found)


def _best(found: list[Sizing]) -> Sizing:
    """Return the fewest installations, then the shortest linger, as far as they are worth what they cost.

    Each installation is one more thing to run, and upstream has to know it: that is worth three tenths
    more machines, and two. A shorter linger is worth a tenth more CPU: small batches cost much.
    """
    most = _MORE_MACHINES * min(one.machines.total for one in found) + _MACHINES_BESIDES
    installations = min(one.installations for one in found if one.machines.total <= most)
    near = [one for one in found if one.installations == installations and one.machines.total <= most]
    least = min(sum(one.cores.values()) for one in near)
    thrifty = [one for one in near if sum(one.cores.values()) <= _CPU_FOR_LATENCY * least]
    return min(thrifty, key=lambda one: (one.linger_ms, one.machines.total))


def _least_busy_needed(  # noqa: PLR0917  # the case at hand
    demand: Demand,
    costs: CostVector,
    given: Assumptions,
    layout: Layout,
    installations: int,
    linger_ms: float,
) -> Sizing | Refusal:
    """Return the busiest sizing that keeps to the p99 and stands the loss of a shard."""
    refusal: Refusal | None = None
    for busy_max in _busy_shares(given.utilisation.planned_share):
        one = size_at(demand, costs, given, layout, installations, linger_ms / 1000, busy_max)
        if isinstance(one, Sizing) and not (refusal := _falls_short(one, demand, given)):
            return one
        if isinstance(one, Refusal):
            refusal = one
    assert refusal is not None
    return refusal


def _busy_shares(most: float) -> Iterator[float]:
    share = most
    while share > _BUSY_STEP:
        yield share
        share = round(share - _BUSY_STEP, 4)


def _falls_short(one: Sizing, demand: Demand, given: Assumptions) -> Refusal | None:
    limit = given.postgresql.connections_max
    if one.p99_s > demand.p99_s:
        reason = f"the p99 is {one.p99_s * 1000:,.0f} ms at {one.machines.busy_share:.0%} busy"
        return Refusal(rank=3, reason=f"{reason}, above --p99 {demand.p99_s * 1000:,.0f} ms")
    if one.down.headroom <= 0:
        reason = f"with one shard down the machine that takes over would be {one.down.busy_share:.0%} busy"
        return Refusal(rank=2, reason=f"{reason}, above what it can do")
    if one.connections > limit:
        reason = f"a primary would have {one.connections:,} connections, {limit:,} at most"
        return Refusal(rank=1, reason=reason)
    return None


def size_at(  # noqa: PLR0917  # the case at hand
    demand: Demand,
    costs: CostVector,
    given: Assumptions,
    layout: Layout,
    installations: int,
    linger_s: float,
    busy_max: float,
) -> Sizing | Refusal:
    """Return what serves the demand at a utilisation.

    More shards and more consumers mean smaller batches, and smaller batches more work: a fixed point, looked
    for by steps of half the difference.
    """
    batch, busy = float(given.settings.batch_max), busy_max
    for _ in range(_ROUNDS):
        cores = cores_busy(demand, costs, given, batch)
        shards = shards_for(
            cores[Part.PRIMARIES],
            demand,
            given,
            busy_max=busy_max,
            layout=layout,
            installations=installations,
        )
        if shards is None:
            return Refusal(rank=0, reason=_too_few_slots(given, installations))
        machines = machines_for(
            cores, shards, given, busy_max=busy_max, layout=layout, installations=installations
        )
        busy = machines.busiest_share
        consumers = max(PROCESSES_MIN, ceil(cores[Part.CONSUMERS] / installations / busy_max))
        lane_per_s = demand.events_per_s / (consumers * shards)
        formed = formed_batch(
            lane_per_s,
            linger_s,
            transaction_s(costs, min(busy, _BUSY_MOST)),
            in_flight=given.settings.batches_in_flight,
            batch_max=given.settings.batch_max,
        )
        if abs(formed - batch) <= 0.001 * batch:  # close enough
            break
        batch = (batch + formed) / 2
    senders = ceil((cores[Part.SMS] + cores[Part.MAIL]) / busy_max / installations)
    connections = (
        consumers * given.settings.connections_of_a_consumer
        + senders * given.settings.connections_of_a_sender
    )
    return Sizing(
        installations=installations,
        linger_ms=linger_s * 1000,
        batch=batch,
        consumers=consumers,
        connections=connections,
        cores=cores,
        machines=machines,
        p99_s=p99_s(costs, linger_s, given.machine.cores, busy),
        down=shard_down(demand, costs, given, cores=cores, machines=machines, layout=layout, batch=batch),
    )


def _too_few_slots(given: Assumptions, installations: int) -> str:
    return (
        f"the 4096 slots of {installations} installations cannot be spread over the shards needed with at "
        f"most {given.utilisation.skew_max:g} times the mean on one"
    )
