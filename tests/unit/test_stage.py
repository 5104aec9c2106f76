"""Seconds of work: what waits, over what the stage was seen to do."""

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from pipeline.observability.registry import MetricRegistry
from pipeline.observability.stage import SECONDS_MAX, Stage
from pipeline.observability.work_metrics import WorkMetrics


def test_nothing_waits_and_nothing_is_known() -> None:
    assert Stage().seconds == 0


def test_what_waits_is_not_judged_before_anything_was_measured() -> None:
    stage = Stage()
    stage.look(0, 1_000_000, 0)
    assert stage.seconds is None
    stage.look(5, 990_000, 10_000)
    assert stage.seconds == pytest.approx(990_000 / 2000)


def test_a_stage_that_is_never_busy_can_do_at_least_the_most_it_did() -> None:
    stage = Stage()
    for at_s, done in ((0, 0), (5, 500), (10, 5500), (15, 5600)):
        stage.look(at_s, 0, done)
    assert stage.seconds == 0
    stage.look(20, 2000, 5700)  # what came just now
    assert stage.seconds == pytest.approx(2.0)


def test_at_its_limit_the_rate_of_now_counts_with_a_memory_of_half_a_minute() -> None:
    stage, done = Stage(), 0
    for at_s in range(0, 300, 5):
        stage.look(at_s, 1000, done)
        done += 5000
    assert stage.capacity == pytest.approx(1000)
    for at_s in range(300, 330, 5):  # it became ten times slower
        stage.look(at_s, 1000, done)
        done += 500
    assert 400 < stage.capacity < 520
    for at_s in range(330, 600, 5):
        stage.look(at_s, 1000, done)
        done += 500
    assert stage.seconds == pytest.approx(10, rel=0.01)


def test_what_stands_still_grows_to_a_day_and_no_further() -> None:
    stage = Stage()
    for at_s in range(0, 3600, 5):
        stage.look(at_s, 3, 0)
    assert stage.seconds == 300
    stage.look(3600, 10**9, 0)
    assert stage.seconds == SECONDS_MAX


def test_others_do_as_much_of_it() -> None:
    stage = Stage()
    stage.look(0, 100, 0)
    stage.look(5, 100, 50, times=4)
    assert stage.seconds == pytest.approx(100 / 40)


def test_a_clock_that_does_not_move_and_a_count_that_begins_anew_do_no_harm() -> None:
    stage = Stage()
    stage.look(0, 5, 100)
    stage.look(0, 5, 200)
    stage.look(5, 5, 0)
    assert stage.seconds == 500


looks = st.lists(
    st.tuples(st.floats(0, 1e6), st.integers(0, 10**9), st.floats(0, 1e12)), min_size=1, max_size=20
)


@given(looks)
def test_it_is_never_nan_never_negative_and_never_endless(looks: list[tuple[float, int, float]]) -> None:
    stage = Stage()
    for at_s, backlog, done in sorted(looks):
        stage.look(at_s, backlog, done)
        assert stage.seconds is None or (isfinite(stage.seconds) and 0 <= stage.seconds <= SECONDS_MAX)


def test_the_worst_part_is_shown_and_nothing_while_a_part_is_unknown() -> None:
    registry = MetricRegistry()
    work = WorkMetrics(registry)
    for at_s in (0, 5):
        work.stage("intake", "a").look(at_s, 10, 10 * at_s)
        work.stage("intake", "b").look(at_s, 90, 10 * at_s)
    work.show("intake")
    lines = generate_latest(registry).decode().splitlines()
    assert 'postorder_work_seconds{bottleneck="intake"} 9.0' in lines
    assert 'postorder_backlog{bottleneck="intake"} 90.0' in lines
    assert 'postorder_capacity_per_second{bottleneck="intake"} 10.0' in lines
    work.stage("intake", "c").look(10, 1, 0)
    work.show("intake")
    assert 'bottleneck="intake"' not in generate_latest(registry).decode()
