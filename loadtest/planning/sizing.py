"""The search: installations, linger time and utilisation that serve a demand with the fewest machines.

An *installation* is one broker cluster with its shards and its map. One is enough until its queues or its
primaries' connections are full; then upstream shares orders out to several, by order id.
"""

from collections.abc import Iterator
from itertools import product
from math import ceil
from typing import NamedTuple

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

    @property
    def thread_share(self) -> float:
        """How busy the one thread of each consumer is."""
        return self.cores[Part.CONSUMERS] / (self.consumers * self.installations)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why one way does not serve the demand. The most telling has the highest `rank`."""

    rank: int
    reason: str


class Asked(NamedTuple):
    """What a plan is asked for, and by what it goes."""

    demand: Demand
    costs: CostVector
    given: Assumptions
    layout: Layout


class _Balance(NamedTuple):
    """A batch size and what it leads to, which leads to the batch size."""

    batch: float
    cores: dict[Part, float]
    machines: Machines
    consumers: int


def queue_per_s(demand: Demand, costs: CostVector, given: Assumptions) -> float:
    """Return the events per second that one quorum queue takes in.

    Its leader is one process of the broker. How much of the broker's CPU is its is not measured, so all of it
    is counted.
    """
    events = demand.events_per_message
    message_us = costs.broker_event_us.value * events + costs.broker_message_us.value
    return given.broker.queue_share_max * 1e6 / message_us * events


def find_sizing(asked: Asked) -> Sizing | Refusal:
    """Return the best way of those there are, or why there is none."""
    demand, costs, given, _ = asked
    fullest = max(demand.orders_per_s, demand.invoices_per_s)
    fewest = max(1, ceil(fullest / queue_per_s(demand, costs, given)))
    counts = sorted({ceil(fewest * times) for times in _TIMES})
    ways = [
        _busiest_that_keeps(asked, installations, linger_ms / 1000)
        for installations, linger_ms in product(counts, given.settings.lingers_ms)
    ]
    found = [way for way in ways if isinstance(way, Sizing)]
    if not found:
        return max((way for way in ways if isinstance(way, Refusal)), key=lambda refusal: refusal.rank)
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


def _busiest_that_keeps(asked: Asked, installations: int, linger_s: float) -> Sizing | Refusal:
    """Return the busiest sizing that keeps to the p99 and stands the loss of a shard, or why none does."""
    refusal = Refusal(rank=-1, reason="utilisation.planned_share is too small to plan with")
    for busy_max in _busy_shares(asked.given.utilisation.planned_share):
        one = size_at(asked, installations, linger_s, busy_max)
        if isinstance(one, Refusal):
            refusal = one
        elif (why := _falls_short(one, asked.demand, asked.given)) is None:
            return one
        else:
            refusal = why
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


def size_at(asked: Asked, installations: int, linger_s: float, busy_max: float) -> Sizing | Refusal:
    """Return what serves the demand at a utilisation."""
    demand, costs, given, layout = asked
    found = _balanced(asked, installations, linger_s, busy_max)
    if isinstance(found, Refusal):
        return found
    batch, cores, machines, consumers = found
    senders = ceil((cores[Part.SMS] + cores[Part.MAIL]) / busy_max / installations)
    of_senders = senders * given.settings.connections_of_a_sender
    return Sizing(
        installations=installations,
        linger_ms=linger_s * 1000,
        batch=batch,
        consumers=consumers,
        connections=consumers * given.settings.connections_of_a_consumer + of_senders,
        cores=cores,
        machines=machines,
        p99_s=p99_s(costs, linger_s, given.machine.cores, machines.busiest_share),
        down=shard_down(demand, costs, given, cores=cores, machines=machines, layout=layout, batch=batch),
    )


def _balanced(asked: Asked, installations: int, linger_s: float, busy_max: float) -> _Balance | Refusal:
    """Return batch size and machines that fit each other.

    More shards and more consumers mean smaller batches, and smaller batches more work: a fixed point, looked
    for by steps of half the difference.
    """
    settings = asked.given.settings
    batch = float(settings.batch_max)
    found = _led_to_by(asked, installations, busy_max, batch)
    for _ in range(_ROUNDS):
        if isinstance(found, Refusal):
            return found
        formed = formed_batch(
            asked.demand.events_per_s / (found.consumers * found.machines.shards),
            linger_s,
            transaction_s(asked.costs, min(found.machines.busiest_share, _BUSY_MOST)),
            in_flight=settings.batches_in_flight,
            batch_max=settings.batch_max,
        )
        if abs(formed - batch) <= 0.001 * batch:  # close enough
            break
        batch = (batch + formed) / 2
        found = _led_to_by(asked, installations, busy_max, batch)
    return found


def _led_to_by(asked: Asked, installations: int, busy_max: float, batch: float) -> _Balance | Refusal:
    demand, costs, given, layout = asked
    cores = cores_busy(demand, costs, given, batch, brokers=installations)
    shards = shards_for(
        cores[Part.PRIMARIES], demand, given, busy_max=busy_max, layout=layout, installations=installations
    )
    if shards is None:
        return Refusal(rank=0, reason=_too_few_slots(given, installations))
    machines = machines_for(
        cores, shards, given, busy_max=busy_max, layout=layout, installations=installations
    )
    consumers = max(PROCESSES_MIN, ceil(cores[Part.CONSUMERS] / installations / busy_max))
    return _Balance(batch, cores, machines, consumers)


def _too_few_slots(given: Assumptions, installations: int) -> str:
    return (
        f"installations needed: {installations}, whose 4096 slots each cannot be spread over the shards they "
        f"need with at most {given.utilisation.skew_max:g} times the mean on one: take machines with more "
        "disk or cores, or hold less data"
    )
