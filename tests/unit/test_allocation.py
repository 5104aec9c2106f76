"""Single decisions: what is seen, what is named, what is done."""

import msgspec
import pytest

from pipeline.allocation.bottleneck import Bottleneck, bottleneck_of
from pipeline.allocation.bounds import Allocation, Bounds
from pipeline.allocation.decision import Decision, Lever, State, decide
from pipeline.allocation.observation import Channel, Observation

BOUNDS = Bounds(
    floor=Allocation(workers=1, prefetch=500, batch_max=100),
    ceiling=Allocation(workers=4, prefetch=8000, batch_max=1000),
)
GIVEN = Allocation(workers=2, prefetch=4000, batch_max=500)
BEHIND = Observation(
    at_s=0,
    running=2,
    ready=100_000,
    held=8000,
    settled_per_s=5000,
    worker_cpu=0.95,
    machine_cpu=0.5,
    window_used=1.0,
    batch_fill=1.0,
    write_s=0.05,
)
SLOW_SMS = Channel(name="sms", waiting=50, calls=32, limit=32)
CALM = msgspec.structs.replace(BEHIND, ready=0, held=10, worker_cpu=0.2, window_used=0.01, batch_fill=0.1)


def but(seen: Observation, **changes: object) -> Observation:
    return msgspec.structs.replace(seen, **changes)


@pytest.mark.parametrize(
    ("seen", "bottleneck"),
    [
        (BEHIND, Bottleneck.WORKERS),
        (CALM, Bottleneck.NONE),
        (but(CALM, worker_cpu=0.95), Bottleneck.NONE),
        (but(BEHIND, ready=0, held=400), Bottleneck.NONE),  # less than a batch
        (but(BEHIND, ready=None), Bottleneck.BROKER),
        (but(BEHIND, machine_cpu=0.95), Bottleneck.MACHINE),
        (but(BEHIND, worker_cpu=0.4, lanes=2.0), Bottleneck.SHARDS),
        (but(BEHIND, worker_cpu=0.4), Bottleneck.PREFETCH),
        (but(BEHIND, worker_cpu=0.4, window_used=0.1), Bottleneck.BROKER),
        (but(CALM, channels=(SLOW_SMS,)), Bottleneck.SMS),
        (but(BEHIND, worker_cpu=0.4, channels=(SLOW_SMS,)), Bottleneck.SMS),
        # Late workers hear of every answer late, so that all their calls look slow.
        (but(BEHIND, channels=(SLOW_SMS,)), Bottleneck.WORKERS),
        (but(BEHIND, channels=(Channel(name="email", is_held=True),)), Bottleneck.EMAIL),
        (but(CALM, channels=(Channel(name="email", limit=32, calls=3),)), Bottleneck.NONE),
    ],
)
def test_the_bottleneck_is_named(seen: Observation, bottleneck: Bottleneck) -> None:
    assert bottleneck_of(seen, GIVEN, BOUNDS) is bottleneck


def lasting(seen: Observation, seconds: float, given: Allocation = GIVEN) -> list[Decision]:
    """Return the decisions while the same is seen every two seconds."""
    state = State(allocation=given)
    decisions = []
    for step in range(int(seconds // 2) + 1):
        seen = but(seen, at_s=100.0 + 2 * step, running=state.allocation.workers)
        decisions.append(decide(seen, state, BOUNDS))
        state = decisions[-1].state
    return decisions


def moves(decisions: list[Decision]) -> list[tuple[int, Lever, int]]:
    return [
        (2 * step, decision.lever, getattr(decision.allocation, decision.lever))
        for step, decision in enumerate(decisions)
        if decision.lever is not Lever.NONE
    ]


def test_busy_workers_get_another_when_it_lasts_and_the_next_when_that_has_settled() -> None:
    assert moves(lasting(BEHIND, 30)) == [(6, Lever.WORKERS, 3), (16, Lever.WORKERS, 4)]


def test_there_are_never_more_than_may_be_and_it_says_so() -> None:
    decisions = lasting(BEHIND, 60)
    assert decisions[-1].allocation.workers == 4
    assert "as many workers as there may be" in decisions[-1].reason


def test_a_spike_shorter_than_the_patience_changes_nothing() -> None:
    state = State(allocation=GIVEN)
    for step in range(60):
        seen = but(BEHIND if step % 3 else CALM, at_s=100.0 + 2 * step)
        state = decide(seen, state, BOUNDS).state
    assert state.allocation.workers == 2


def test_idle_workers_go_late_and_one_by_one_and_then_the_window() -> None:
    found = moves(lasting(CALM, 300, Allocation(workers=3, prefetch=2000, batch_max=500)))
    assert found == [
        (60, Lever.WORKERS, 2),
        (122, Lever.WORKERS, 1),
        (184, Lever.PREFETCH, 1000),
        (246, Lever.PREFETCH, 500),
    ]


def test_a_worker_stays_when_the_others_could_not_do_its_share() -> None:
    assert moves(lasting(but(CALM, worker_cpu=0.3, window_used=0.5), 300)) == []


def test_nothing_is_decided_while_a_worker_is_missing() -> None:
    state = State(allocation=GIVEN)
    for step in range(60):
        decision = decide(but(BEHIND, at_s=2.0 * step, running=1), state, BOUNDS)
        assert decision.lever is Lever.NONE
        assert decision.reason == "1 of 2 workers are up"
        state = decision.state


def test_full_batches_that_take_too_long_are_made_smaller() -> None:
    found = moves(lasting(but(CALM, write_s=0.4, batch_fill=0.95, window_used=0.5, worker_cpu=0.4), 20))
    assert found == [(6, Lever.BATCH, 333), (16, Lever.BATCH, 222)]


def test_slow_writes_of_small_batches_are_not_the_batches_fault() -> None:
    assert moves(lasting(but(CALM, write_s=0.4, batch_fill=0.1, window_used=0.5, worker_cpu=0.4), 60)) == []


def test_a_full_window_of_idle_workers_is_doubled() -> None:
    found = moves(lasting(but(BEHIND, worker_cpu=0.4, lanes=0.2), 40))
    assert found == [(6, Lever.PREFETCH, 8000)]


def test_the_work_that_waits_is_never_more_than_a_day() -> None:
    assert but(BEHIND, ready=10**9, settled_per_s=0).work_s == 86_400
    assert but(BEHIND, ready=50, held=50, settled_per_s=0).work_s == 100
