"""A model of workers, shards and a machine, for tests of what decides about them: a fluid, in steps."""

import random
from collections.abc import Callable
from itertools import pairwise

import msgspec

from pipeline.allocation.bounds import Allocation, Bounds
from pipeline.allocation.decision import Decision, Lever, State, decide
from pipeline.allocation.observation import Channel, Observation

LOOK_S = 2.0
START_S = 3.0  # until a new worker speaks


class World(msgspec.Struct, kw_only=True):
    """What there is. `per_worker`: events a core does in a second. `shards`: what they take.

    `cores`: of the machine. `others`: cores that others use. `provider`: messages that it takes in a second.
    """

    per_worker: float = 1000.0
    shards: float = float("inf")
    cores: float = 64.0
    others: float = 0.0
    provider: float = float("inf")
    sends: bool = False
    noise: float = 0.03
    seed: int = 1


class Run(msgspec.Struct):
    """What happened: each decision with its time, and the backlog at each look."""

    decisions: list[tuple[float, Decision]] = []
    backlog: list[tuple[float, float]] = []
    allocations: list[tuple[float, Allocation]] = []

    def changes(self, lever: Lever, after_s: float = 0.0) -> list[int]:
        """Return the values that a lever took, in order."""
        return [
            getattr(decision.allocation, lever)
            for at_s, decision in self.decisions
            if decision.lever is lever and at_s >= after_s
        ]

    def turns(self, lever: Lever, start: int) -> int:
        """Return how often a lever changed its direction."""
        values = [start, *self.changes(lever)]
        ups = [after > before for before, after in pairwise(values)]
        return sum(one is not other for one, other in pairwise(ups))


def simulate(
    world: World, bounds: Bounds, arrivals: Callable[[float], float], *, seconds: float, start: Allocation
) -> Run:
    """Let the allocator decide every two seconds about a world that events come to at a rate."""
    rng = random.Random(world.seed)
    state = State(allocation=start, changed_at_s=0.0)
    run = Run(decisions=[], backlog=[], allocations=[])
    backlog, owed, up, up_at_s, at_s = 0.0, 0.0, start.workers, 0.0, 0.0
    while at_s < seconds:
        at_s += LOOK_S
        given = state.allocation
        if given.workers != up and at_s >= up_at_s:
            up = given.workers
        free = max(0.1, world.cores - world.others)
        cores = min(float(up), free)
        able = cores * world.per_worker
        batch_gain = min(1.5, (given.batch_max / 500) ** 0.3)
        done = min(backlog + arrivals(at_s) * LOOK_S, able * LOOK_S, world.shards * batch_gain * LOOK_S)
        backlog += arrivals(at_s) * LOOK_S - done
        sent = min(owed + done, world.provider * LOOK_S) if world.sends else 0.0
        owed += done - sent if world.sends else 0.0
        used = done / LOOK_S / world.per_worker
        shard_bound = world.shards * batch_gain < able
        window = given.prefetch * up
        held = min(backlog, window)
        seen = Observation(
            at_s=at_s,
            running=up,
            ready=int(backlog - held),
            held=int(held),
            settled_per_s=done / LOOK_S,
            worker_cpu=min(1.0, used / up * (1 + rng.uniform(-world.noise, world.noise))),
            machine_cpu=min(1.0, (world.others + used) / world.cores),
            window_used=held / window,
            lanes=held / up / given.batch_max if shard_bound and backlog > 0 else 0.0,
            batch_fill=1.0 if backlog > 0 else 0.3,
            write_s=0.02 * given.batch_max / 500,
            channels=_channels(world, owed),
        )
        decision = decide(seen, state, bounds)
        if decision.allocation.workers != given.workers:
            up_at_s = at_s + START_S
        state = decision.state
        run.decisions.append((at_s, decision))
        run.backlog.append((at_s, backlog))
        run.allocations.append((at_s, state.allocation))
    return run


def _channels(world: World, owed: float) -> tuple[Channel, ...]:
    if not world.sends:
        return ()
    return (Channel(name="sms", waiting=int(min(owed, 64)), calls=32 if owed else 4, limit=32),)
