"""What holds of every decision, whatever is seen; and of whole runs on a model of the pipeline."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queueing_model import World, simulate

from pipeline.allocation.bottleneck import PROVIDERS, bottleneck_of
from pipeline.allocation.bounds import Allocation, Bounds
from pipeline.allocation.decision import Lever, State, decide
from pipeline.allocation.observation import Channel, Observation

SHARES = st.floats(0, 1)
COUNTS = st.integers(0, 100_000)
CHANNELS = st.builds(
    Channel,
    name=st.sampled_from(["sms", "email"]),
    waiting=st.integers(0, 500),
    calls=st.integers(0, 64),
    limit=st.integers(0, 64),
    is_held=st.booleans(),
)
OBSERVATIONS: Any = st.builds(
    Observation,
    at_s=st.floats(0, 10_000),
    running=st.integers(0, 12),
    ready=st.none() | COUNTS,
    held=COUNTS,
    settled_per_s=st.floats(0, 50_000),
    worker_cpu=SHARES,
    machine_cpu=SHARES,
    window_used=SHARES,
    lanes=st.floats(0, 20),
    batch_fill=SHARES,
    write_s=st.none() | st.floats(0, 5),
    channels=st.lists(CHANNELS, max_size=2).map(tuple),
)


@st.composite
def all_bounds(draw: Any) -> Bounds:
    low = [draw(st.integers(1, most)) for most in (6, 5000, 800)]
    high = [value + draw(st.integers(0, most)) for value, most in zip(low, (6, 20_000, 2000), strict=True)]
    names = ("workers", "prefetch", "batch_max")
    return Bounds(
        floor=Allocation(**dict(zip(names, low, strict=True))),
        ceiling=Allocation(**dict(zip(names, high, strict=True))),
        grow_after_s=draw(st.floats(0, 10)),
        shrink_after_s=draw(st.floats(0, 10)),
        settle_s=draw(st.floats(0, 10)),
    )


@st.composite
def histories(draw: Any) -> tuple[Bounds, list[Observation]]:
    """Bounds, and what is seen in order of time. Most often all workers are up."""
    bounds = draw(all_bounds())
    found = draw(st.lists(OBSERVATIONS, min_size=1, max_size=12))
    times = sorted(seen.at_s for seen in found)
    return bounds, [msgspec.structs.replace(seen, at_s=at_s) for seen, at_s in zip(found, times, strict=True)]


def played(bounds: Bounds, history: list[Observation], *, all_up: bool = True):
    """Yield each observation, the state before it, and the decision."""
    state = State(allocation=bounds.floor)
    for seen in history:
        if all_up:
            seen = msgspec.structs.replace(seen, running=state.allocation.workers)  # noqa: PLW2901
        decision = decide(seen, state, bounds)
        yield seen, state, decision
        state = decision.state


@given(case=histories(), all_up=st.booleans())
def test_nothing_is_ever_outside_its_bounds(case: tuple[Bounds, list[Observation]], *, all_up: bool) -> None:
    bounds, history = case
    for _, _, decision in played(bounds, history, all_up=all_up):
        assert bounds.within(decision.allocation) == decision.allocation


@given(histories())
def test_one_lever_moves_at_a_time_and_says_why(case: tuple[Bounds, list[Observation]]) -> None:
    bounds, history = case
    changed_at_s = float("-inf")
    for seen, before, decision in played(bounds, history):
        moved = [
            name
            for name in ("workers", "prefetch", "batch_max")
            if getattr(before.allocation, name) != getattr(decision.allocation, name)
        ]
        assert moved == ([] if decision.lever is Lever.NONE else [decision.lever])
        assert decision.reason
        assert abs(decision.allocation.workers - before.allocation.workers) <= 1
        if moved:
            assert seen.at_s - changed_at_s >= bounds.settle_s
            changed_at_s = seen.at_s


@given(histories())
def test_workers_are_never_added_while_a_provider_is_the_limit(
    case: tuple[Bounds, list[Observation]],
) -> None:
    bounds, history = case
    for seen, before, decision in played(bounds, history):
        is_limit = bottleneck_of(seen, before.allocation, bounds) in PROVIDERS
        if is_limit or any(channel.is_held for channel in seen.channels):
            assert decision.bottleneck in PROVIDERS
            assert decision.allocation.workers <= before.allocation.workers


@given(histories(), st.integers(0, 100_000))
def test_a_larger_backlog_never_gives_fewer_workers(
    case: tuple[Bounds, list[Observation]], more: int
) -> None:
    bounds, history = case
    last = history[-1]
    if last.ready is None:
        return
    *_, (seen, state, decision) = played(bounds, history)
    larger = msgspec.structs.replace(seen, ready=(seen.ready or 0) + more)
    with_more = decide(larger, state, bounds)
    with_less = decide(seen, state, bounds)
    assert with_more.allocation.workers >= with_less.allocation.workers
    assert decision.allocation.workers <= bounds.ceiling.workers


BOUNDS = Bounds(
    floor=Allocation(workers=1, prefetch=500, batch_max=100),
    ceiling=Allocation(workers=12, prefetch=8000, batch_max=1000),
)
START = Allocation(workers=1, prefetch=4000, batch_max=500)


@settings(max_examples=60, deadline=None)
@given(load=st.floats(0, 9), seed=st.integers(0, 1000), noise=st.floats(0, 0.1))
def test_under_a_constant_load_it_settles_and_stays(load: float, seed: int, noise: float) -> None:
    """`load` in cores' worth of events. What is started at the wrong size goes one way, and then rests."""
    world = World(seed=seed, noise=noise)
    run = simulate(world, BOUNDS, lambda _: load * world.per_worker, seconds=900, start=START)
    workers = run.allocations[-1][1].workers
    assert run.changes(Lever.WORKERS, after_s=600) == []
    assert run.turns(Lever.WORKERS, START.workers) <= 1  # up for what piled up meanwhile, down again
    assert workers >= load
    assert workers <= max(1, load / BOUNDS.cpu_low + 2)
    assert run.backlog[-1][1] <= START.prefetch * workers


@settings(max_examples=30, deadline=None)
@given(load=st.floats(1.5, 8), seed=st.integers(0, 1000))
def test_after_a_burst_it_goes_back_to_what_is_needed(load: float, seed: int) -> None:
    world = World(seed=seed)
    run = simulate(
        world,
        BOUNDS,
        lambda at_s: load * world.per_worker if 100 <= at_s < 400 else 0.3 * world.per_worker,
        seconds=2000,
        start=START,
    )
    assert max(given.workers for _, given in run.allocations) >= load
    assert run.allocations[-1][1].workers == 1
    assert run.turns(Lever.WORKERS, START.workers) == 1


@settings(max_examples=30, deadline=None)
@given(load=st.floats(0.5, 10), provider=st.floats(10, 400), seed=st.integers(0, 1000))
def test_a_slow_provider_brings_no_worker(load: float, provider: float, seed: int) -> None:
    world = World(sends=True, provider=provider, seed=seed)
    # As many events as the provider can be sent, at first; then its speed is what all wait for.
    run = simulate(world, BOUNDS, lambda _: min(0.7, load) * world.per_worker, seconds=600, start=START)
    assert [given.workers for _, given in run.allocations] == [1] * len(run.allocations)
    assert run.decisions[-1][1].bottleneck == "sms"


@pytest.mark.parametrize(
    ("world", "bottleneck"),
    [
        pytest.param(World(cores=2, others=1.2), "machine", id="others use the machine"),
        pytest.param(World(shards=300), "shards", id="slow shards"),
    ],
)
def test_what_workers_do_not_help_brings_none(world: World, bottleneck: str) -> None:
    run = simulate(world, BOUNDS, lambda _: 900, seconds=600, start=START)
    assert run.decisions[-1][1].bottleneck == bottleneck
    assert run.allocations[-1][1].workers == 1


def test_slow_shards_get_larger_batches_up_to_the_ceiling() -> None:
    run = simulate(World(shards=300), BOUNDS, lambda _: 900, seconds=600, start=START)
    assert run.changes(Lever.BATCH) == [751, 1000]
