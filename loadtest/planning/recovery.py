"""With one shard down: what the machine that takes over is busy with, and how long it catches up."""

import math

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.layout import Layout, Machines
from loadtest.planning.loads import Part, event_cost


class ShardDown(msgspec.Struct, frozen=True, kw_only=True):
    """After a machine with a primary was lost and its replica took over.

    `busy_share` is that of the machine that took over; `headroom` what is left below saturation. The events
    that came in `failover_s` are then written in `catch_up_s`.
    """

    failover_s: float
    busy_share: float
    headroom: float
    waiting_events: float
    catch_up_s: float


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """A backlog is written while the same load goes on; seconds. Infinite where nothing is left for it."""

    backlog_events: float
    events_s: float


def shard_down(
    demand: Demand,
    costs: CostVector,
    given: Assumptions,
    *,
    cores: dict[Part, float],
    machines: Machines,
    layout: Layout,
    batch: float,
) -> ShardDown:
    """Return what a plan has left with one shard's primary gone."""
    primary, replica = (
        cores[part] / machines.shards * machines.skew for part in (Part.PRIMARIES, Part.REPLICAS)
    )
    if layout is Layout.SHARED:
        lost = machines.total / (machines.total - 1) if machines.total > 1 else math.inf
        busy = machines.busy_share * lost + (primary - replica) / given.machine.cores
    else:
        busy = machines.busy_share
    headroom = costs.saturation_share.value - busy
    waiting = demand.events_per_s / machines.shards * machines.skew * costs.failover_s.value
    each = event_cost(costs, batch=batch, events_per_message=demand.events_per_message)
    spare_per_s = headroom * given.machine.cores * 1e6 / each.primary
    return ShardDown(
        failover_s=costs.failover_s.value,
        busy_share=busy,
        headroom=headroom,
        waiting_events=waiting,
        catch_up_s=waiting / spare_per_s if spare_per_s > 0 else math.inf,
    )


def drain(demand: Demand, costs: CostVector, busy_share: float) -> Drain:
    """Return how long a backlog of `demand.backlog_s` takes, all machines up.

    `busy_share`: under the load alone, of what is busiest: a machine, or the thread of a consumer.
    """
    backlog = demand.events_per_s * demand.backlog_s
    spare = demand.events_per_s * (costs.saturation_share.value / busy_share - 1)
    return Drain(backlog_events=backlog, events_s=backlog / spare if spare > 0 else math.inf)
