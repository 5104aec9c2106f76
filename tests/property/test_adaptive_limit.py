"""The limit of calls at once: always within its bounds, down when it must be, up again when it may."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.notifications.pools.adaptive_limit import AdaptiveLimit

FEW = settings(max_examples=40, deadline=None)


def limit_of(floor: int = 2, ceiling: int = 64) -> AdaptiveLimit:
    return AdaptiveLimit(floor, ceiling, rise=2.0, tolerance_s=0.1)


def answer(limit: AdaptiveLimit, took_s: float, sets: int, *, in_flight: int | None = None) -> None:
    for _ in range(sets):
        for _ in range(max(16, limit.limit)):
            limit.answered(took_s, limit.limit if in_flight is None else in_flight)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["answer", "overload"]), st.floats(0, 60), st.integers(0, 200)), max_size=300
)


@FEW
@given(st.integers(1, 50), st.integers(0, 200), EVENTS)
def test_it_never_leaves_its_bounds(floor: int, more: int, events) -> None:
    limit = AdaptiveLimit(floor, floor + more, rise=2.0, tolerance_s=0.1)
    now = 0.0
    for what, seconds, in_flight in events:
        before = limit.limit
        now += seconds
        if what == "answer":
            limit.answered(seconds, in_flight)
            assert limit.limit <= before + 1
        else:
            limit.overloaded(now - seconds, now)
            assert limit.limit <= before
            assert limit.limit >= min(before, max(floor, before // 2))
        assert floor <= limit.limit <= floor + more


@FEW
@given(st.floats(0.001, 30))
def test_steady_answers_lead_to_the_ceiling(took_s: float) -> None:
    limit = limit_of()
    answer(limit, took_s, sets=64)
    assert limit.limit == limit.ceiling


@FEW
@given(st.floats(0.001, 5), st.floats(3, 20))
def test_slower_answers_lower_it_and_usual_ones_raise_it_again(usual_s: float, times: float) -> None:
    limit = limit_of()
    answer(limit, usual_s, sets=64)
    answer(limit, usual_s * times + 0.2, sets=10)
    lowest = limit.limit
    assert lowest <= 64 * 0.8**8
    answer(limit, usual_s, sets=64)
    assert limit.limit == limit.ceiling


def test_a_slowness_that_stays_becomes_usual() -> None:
    limit = limit_of()
    answer(limit, 0.2, sets=64)
    answer(limit, 0.8, sets=20)
    assert limit.limit == limit.floor
    answer(limit, 0.8, sets=200)
    assert limit.limit == limit.ceiling


def test_little_slowness_is_none() -> None:
    limit = limit_of()
    answer(limit, 0.005, sets=64)
    answer(limit, 0.09, sets=64)  # eighteen times as long, but not 100 ms more: our own loop may be the cause
    assert limit.limit == limit.ceiling


def test_refusals_of_calls_under_way_together_count_once() -> None:
    limit = limit_of()
    answer(limit, 0.1, sets=64)
    for _ in range(64):
        limit.overloaded(started_at=10.0, now=10.1)
    assert limit.limit == 32
    limit.overloaded(started_at=10.2, now=10.3)
    assert limit.limit == 16


def test_who_does_not_use_it_gets_no_more() -> None:
    limit = limit_of()
    answer(limit, 0.1, sets=50, in_flight=3)
    assert limit.limit == 32


def test_an_answer_costs_the_same_however_high_the_limit() -> None:
    limit = AdaptiveLimit(1, 1000, rise=2.0, tolerance_s=0.1)
    answer(limit, 0.1, sets=1000)
    assert len(limit._samples) <= 1000
