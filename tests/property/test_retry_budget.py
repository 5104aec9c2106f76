"""The budget of tries again, and the count behind it."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.notifications.pools.retry_budget import RetryBudget
from pipeline.notifications.pools.rolling_count import RollingCount

FEW = settings(max_examples=40, deadline=None)

STEPS = st.lists(st.tuples(st.floats(0, 20), st.sampled_from([1, 1, 1, 2, 3]), st.booleans()), max_size=300)


@FEW
@given(STEPS)
def test_failing_tries_again_are_a_fifth_of_first_tries_at_most(steps) -> None:
    """In the minute before each of them, to the two seconds the count is exact to."""
    budget, now = RetryBudget(share=0.2, least=6, now=0.0), 0.0
    first: deque[float] = deque()
    again: deque[float] = deque()
    for gap, attempt, _ in steps:
        now += gap
        if not budget.begin(attempt, now):
            continue
        (first if attempt == 1 else again).append(now)
        if attempt > 1:
            made = sum(at > now - 58 for at in again)
            assert made <= 0.2 * sum(at > now - 62 for at in first) + 6


@FEW
@given(STEPS)
def test_tries_again_that_succeed_are_free(steps) -> None:
    budget, now = RetryBudget(share=0.2, least=6, now=0.0), 0.0
    for gap, attempt, is_held in steps:
        now += gap
        assert budget.begin(attempt, now)
        if is_held:
            budget.not_made(attempt, now, now + gap)
        elif attempt > 1:
            budget.give_back(now, now + gap)
        now += gap
    assert budget.left(now + 120) == 6


@FEW
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5)), max_size=200), st.floats(1, 60))
def test_a_rolling_count_is_right_to_a_thirtieth_of_its_window(steps, window_s: float) -> None:
    count, now, happened = RollingCount(window_s, 0.0), 0.0, []
    for gap, times in steps:
        now += gap
        for _ in range(times):
            count.add(now)
            happened.append(now)
        step_s = window_s / 30
        surely = sum(at > now - window_s + step_s * 1.001 for at in happened)
        perhaps = sum(at > now - window_s - step_s * 1.001 for at in happened)
        assert surely <= count.read(now) <= perhaps


def test_what_is_withdrawn_does_not_count() -> None:
    count = RollingCount(60, 0.0)
    count.add(1.0)
    count.add(30.0)
    count.withdraw(1.0, 40.0)
    assert (count.read(40.0), count.read(80.0), count.read(91.0)) == (1, 1, 0)
    count.withdraw(30.0, 200.0)  # forgotten long ago
    assert count.read(200.0) == 0
