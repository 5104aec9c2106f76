"""Latencies in HdrHistograms: right to three digits, whatever comes, and what never came is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.scenarios.latencies import (
    curve,
    latency_of,
    percentiles_over_time,
    recorded,
    spread_of,
)


def test_percentiles_are_those_of_the_values() -> None:
    seconds = np.random.default_rng(1).lognormal(-3, 1, 200_000)
    found = latency_of(seconds)
    assert found is not None
    for name, share in (("p50_ms", 50), ("p90_ms", 90), ("p99_ms", 99), ("p999_ms", 99.9)):
        assert getattr(found, name) == pytest.approx(np.percentile(seconds, share) * 1e3, rel=2e-3)
    assert found.max_ms == pytest.approx(seconds.max() * 1e3, abs=1e-3)
    assert (found.count, found.missing) == (200_000, 0)


@given(st.lists(st.floats(0, 80_000), min_size=1, max_size=50))
def test_recording_in_sets_is_recording_one_by_one(values: list[float]) -> None:
    together = recorded(np.array(values))
    assert together.get_total_count() == len(values)
    # Three digits of a value are kept.
    assert together.get_value_at_percentile(100) == pytest.approx(
        max(max(values) * 1e6, 1), rel=1.1e-3, abs=1
    )


def test_what_never_came_is_counted_and_in_no_percentile() -> None:
    found = latency_of(np.array([0.01, np.nan, 0.01, np.nan]))
    assert found is not None
    assert (found.count, found.missing) == (2, 2)
    assert found.max_ms == pytest.approx(10)
    nothing = latency_of(np.array([np.nan]))
    assert nothing is not None
    assert (nothing.count, nothing.missing, nothing.p99_ms) == (0, 1, 0.0)
    assert latency_of(np.array([])) is None


def test_the_curve_rises_and_ends_where_there_are_values() -> None:
    found = latency_of(np.random.default_rng(1).exponential(0.05, 5000))
    assert found is not None
    points = curve(found)
    assert [value for _, value in points] == sorted(value for _, value in points)
    assert points[-1][0] <= 100 * (1 - 1 / 5000)


def test_percentiles_over_time_are_by_the_planned_moment() -> None:
    planned = np.arange(0, 10, 0.01)
    took = np.where(planned < 5, 0.010, 0.100)
    took[planned >= 9] = np.nan
    found = percentiles_over_time(planned, took, until_s=10, share=99, step_s=1)
    assert found == [10.0] * 5 + [100.0] * 4 + [None]


def test_a_spread_needs_three_windows() -> None:
    assert spread_of([10.0, 12.0]) is None
    assert spread_of([10.0, None, 12.0]) is None
    assert spread_of([10.0, 10.0, 10.0]) == 0.0
    assert spread_of([9.0, 10.0, 11.0]) == pytest.approx(0.1)
