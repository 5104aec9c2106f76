"""What is simulated: an ordinary minute, a customer who orders without end, a lost shard, a new one."""

from math import ceil

import msgspec
import numpy as np

from loadtest.planning.costs import CostVector
from loadtest.planning.placement import first_map, shard_names
from loadtest.planning.simulation.figures import (
    OverTime,
    Spread,
    back_to_normal_s,
    over_time,
    p99_by_shard,
    spread_of,
)
from loadtest.planning.simulation.world import Floats, Installation, Process, World, Written
from pipeline.sharding.planner import SlotMove, plan_add
from pipeline.sharding.router import Router
from pipeline.sharding.slots import SLOT_COUNT

SECONDS = 60.0
LONG_S = 180.0
"""With a backlog to catch up with."""
BEGINS_S = 20.0
"""When what a scenario is about happens; before it all is as ever."""
HOT_SHARE = 0.2
"""Of all orders, on top of them, for so long."""
HOT_S = 30.0
_HOT_ORDERS = 20_000
_FLIP_EVERY_S = 1.0
_LONG_TICK_S = 0.2
_GROUPS_MAX = 20


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario. `affected`: what happened to something in it; `notes`: what it shows, a line each.

    `busy`: of each shard, while it went on. Latencies are from publish to committed.
    """

    name: str
    what: str
    everything: Spread
    affected: Spread
    others: Spread
    line: OverTime
    busy: list[float]
    p99_by_shard_ms: list[float]
    committed: int
    waiting: int
    notes: list[str]


def ordinary(given: Installation) -> Outcome:
    """Simulate skew alone."""
    world = _world(given)
    written = world.run(SECONDS)
    shares = np.bincount(world.owners, minlength=given.shards)
    fullest = int(shares.argmax())
    p99 = p99_by_shard(written, given.shards)
    spread = f"{shares.min()} to {shares.max()} of {SLOT_COUNT} slots on each of {given.shards} shards"
    notes = [
        f"{spread}: the fullest has {shares.max() * given.shards / SLOT_COUNT:.3f} times the mean",
        f"p99 of a shard: {min(p99):,.0f} to {max(p99):,.0f} ms; with most slots {p99[fullest]:,.0f} ms",
    ]
    return _outcome("skew", "an ordinary time: only the uneven spread of slots", world, written, notes)


def hot_customer(given: Installation) -> Outcome:
    """Simulate one customer whose orders come on top of all others."""
    world = _world(given)
    router = Router(first_map(given.shards))
    extra = _slots_of_orders(router, "hot") * given.events_per_s * HOT_SHARE
    world.env.process(_for_a_while(world, extra))
    written = world.run(SECONDS)
    by_shard = np.bincount(world.owners, weights=extra, minlength=given.shards)
    mean = given.events_per_s / given.shards
    orders = f"one customer orders {HOT_SHARE:.0%} of all on top for {HOT_S:g} s"
    gains = f"each shard gets {by_shard.min() / mean:.1%} to {by_shard.max() / mean:.1%} more"
    notes = [
        f"{orders}; orders are placed by their own ids, so {gains}",
        f"placed by customer, one shard would get {given.shards * HOT_SHARE:,.0f} times its load more",
        "the customer's own row is on one shard: each sender reads it once and keeps it until it changes",
    ]
    return _outcome("hot customer", "one customer orders without end", world, written, notes)


def shard_lost(given: Installation, costs: CostVector, after_per_s: float) -> Outcome:
    """Simulate a primary that is away until its replica takes over, and is slower then."""
    world = _world(msgspec.structs.replace(given, tick_s=_LONG_TICK_S))
    lost = int(np.bincount(world.owners).argmax())
    world.affected_shards.add(lost)
    away_s = costs.failover_s.value
    world.env.process(_away(world, lost, away_s, after_per_s))
    written = world.run(LONG_S)
    line = over_time(written, LONG_S)
    normal_ms = spread_of(written, written.at_s < BEGINS_S).p99_ms
    over_s = back_to_normal_s(line.affected, BEGINS_S, normal_ms)
    until = f"{over_s - away_s:,.0f} s after" if over_s is not None else "not within the simulated time after"
    notes = [
        f"the fullest shard is away for {away_s:g} s; its events are parked and come back by the ladder",
        f"its p99 is normal again {until} its return; the other shards do not notice",
    ]
    return _outcome("shard lost", "a primary fails and its replica takes over", world, written, notes, line)


def shard_added(given: Installation, costs: CostVector, rows_of_slot: float) -> Outcome:
    """Simulate the flips of a shard that comes; the copying before them is only counted."""
    names = shard_names(given.shards + 1)
    before = first_map(given.shards)
    moves = plan_add(before.owners, dict.fromkeys(names, 1), names[-1])
    world = World(given, before, names)
    pause_s = costs.moved_pause_ms.value / 1000
    world.env.process(_flips(world, moves, pause_s))
    written = world.run(SECONDS)
    copy_s = rows_of_slot * len(moves) / costs.moved_rows_per_s.value
    sources = len({move.source for move in moves})
    share = f"1/{given.shards + 1} would be {SLOT_COUNT / (given.shards + 1):.1f}"
    notes = [
        f"{len(moves)} of {SLOT_COUNT} slots move, from {sources} shards, none between others ({share})",
        f"each takes no writes for {pause_s * 1000:g} ms; only its own events wait",
        f"copying before it, at {costs.moved_rows_per_s.value:,.0f} rows/s: {copy_s / 3600:,.1f} h",
    ]
    return _outcome("shard added", "a shard comes and slots move to it", world, written, notes)


def _world(given: Installation) -> World:
    return World(given, first_map(given.shards), shard_names(given.shards))


def _slots_of_orders(router: Router, customer: str) -> Floats:
    """Return the share of a customer's orders in each slot, by placing them one by one."""
    slots = [router.place(f"{customer}-{number}").slot for number in range(_HOT_ORDERS)]
    return np.bincount(slots, minlength=SLOT_COUNT) / _HOT_ORDERS


def _for_a_while(world: World, extra: Floats) -> Process:
    yield world.env.timeout(BEGINS_S)
    world.slot_per_s += extra
    yield world.env.timeout(HOT_S)
    world.slot_per_s -= extra


def _away(world: World, shard: int, seconds: float, after_per_s: float) -> Process:
    yield world.env.timeout(BEGINS_S)
    world.stations[shard].fail()
    yield world.env.timeout(seconds)
    world.stations[shard].come_back(after_per_s)


def _flips(world: World, moves: tuple[SlotMove, ...], pause_s: float) -> Process:
    yield world.env.timeout(BEGINS_S)
    size = ceil(len(moves) / _GROUPS_MAX)
    for first in range(0, len(moves), size):
        group = moves[first : first + size]
        world.hold([move.slot for move in group])
        yield world.env.timeout(pause_s)
        world.give([move.slot for move in group], group[0].target)
        yield world.env.timeout(_FLIP_EVERY_S)


def _outcome(  # noqa: PLR0917  # one struct's fields
    name: str,
    what: str,
    world: World,
    written: Written,
    notes: list[str],
    line: OverTime | None = None,
) -> Outcome:
    everything = np.ones(len(written.at_s), dtype=bool)
    committed = int(written.events.sum())
    return Outcome(
        name=name,
        what=what,
        everything=spread_of(written, everything),
        affected=spread_of(written, written.affected),
        others=spread_of(written, ~written.affected),
        line=line or over_time(written, SECONDS),
        busy=[round(station.busy_s / world.env.now, 4) for station in world.stations],
        p99_by_shard_ms=p99_by_shard(written, len(world.stations)),
        committed=committed,
        waiting=world.waiting,
        notes=notes,
    )
