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
    now, lowered_from = 0.0, 0
    for what, seconds, in_flight in events:
        before = limit.limit
        now += seconds
        if what == "answer":
            limit.answered(seconds, in_flight)
            assert limit.limit <= max(before + max(1, before // 8), lowered_from)
            lowered_from = before if limit.limit < before else lowered_from
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


def queue(limit: AdaptiveLimit, *, servers: int, service_s: float, sets: int) -> None:
    """Answer as a provider does that works on so many calls at once and lets the others wait."""
    for _ in range(sets):
        for _ in range(max(16, limit.limit)):
            limit.answered(service_s * max(1.0, limit.limit / servers), limit.limit)


@FEW
@given(st.floats(0.1, 2), st.integers(4, 8))
def test_calls_that_wait_for_each_other_lower_it_and_room_raises_it_again(
    service_s: float, servers: int
) -> None:
    limit = limit_of()
    answer(limit, service_s, sets=64)
    queue(limit, servers=servers, service_s=service_s + 0.1, sets=24)
    assert limit.limit <= 3 * servers + 4
    answer(limit, service_s, sets=64)
    assert limit.limit == limit.ceiling


@FEW
@given(st.floats(0.001, 5), st.floats(3, 20))
def test_a_slowness_that_fewer_calls_do_not_better_is_not_ours(usual_s: float, times: float) -> None:
    """Throttled to the floor, messages waited for many seconds that a slow provider would have taken."""
    limit = limit_of()
    answer(limit, usual_s, sets=64)
    answer(limit, usual_s * times + 0.2, sets=4)
    assert limit.limit == limit.ceiling
    answer(limit, usual_s * times + 0.2, sets=20)
    assert limit.limit == limit.ceiling
    answer(limit, (usual_s * times + 0.2) * 4, sets=2)  # what is usual now is what it is held against
    assert limit.limit < limit.ceiling


def test_answers_to_calls_from_before_say_nothing_of_the_new_limit() -> None:
    limit = limit_of()
    answer(limit, 0.1, sets=64)
    answer(limit, 0.8, sets=1)
    assert limit.limit == 51
    for _ in range(64):  # begun with 64 calls under way
        limit.answered(0.8, 64)
    assert limit.limit == 51
    for _ in range(51):  # and these with 51
        limit.answered(0.6, 51)
    assert limit.limit == 40  # it helped: down again


def test_a_refusal_for_load_ends_a_trial_so_that_nothing_undoes_it() -> None:
    limit = limit_of()
    answer(limit, 0.1, sets=64)
    answer(limit, 0.8, sets=1)
    assert limit.limit == 51  # the trial
    limit.overloaded(started_at=10.0, now=10.1)
    assert limit.limit == 25
    answer(limit, 0.8, sets=5)  # as slow as before: that says nothing against the refusal
    assert limit.limit <= 25


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
