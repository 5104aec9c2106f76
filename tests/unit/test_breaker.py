"""The circuit breaker: when it opens, for how long, and how it closes again."""

import pytest

from pipeline.notifications.pools.breaker import Breaker, Circuit
from pipeline.settings import PoolSettings

SETTINGS = PoolSettings()  # half of at least 10 calls in 30 s; 2 s, 4 s … 60 s


def breaker() -> Breaker:
    return Breaker(SETTINGS, 0.0)


def opened(now: float = 0.0) -> Breaker:
    found = breaker()
    for _ in range(10):
        found.failed(now, is_probe=False)
    assert found.circuit is Circuit.OPEN
    return found


def test_calls_pass_while_it_is_closed() -> None:
    found = breaker()
    assert [found.begin(1.0) for _ in range(5)] == [False] * 5


@pytest.mark.parametrize(("failures", "is_open"), [(9, False), (10, True)])
def test_a_few_failures_prove_nothing(failures: int, is_open) -> None:
    found = breaker()
    for _ in range(failures):
        found.failed(1.0, is_probe=False)
    assert (found.circuit is Circuit.OPEN) == is_open


@pytest.mark.parametrize(("good", "bad", "is_open"), [(11, 10, False), (10, 10, True), (100, 99, False)])
def test_it_opens_at_a_ratio(good: int, bad: int, is_open) -> None:
    found = breaker()
    for _ in range(good):
        found.succeeded(1.0, is_probe=False)
    for _ in range(bad):
        found.failed(1.0, is_probe=False)
    assert (found.circuit is Circuit.OPEN) == is_open


def test_what_is_longer_ago_than_its_window_is_forgotten() -> None:
    found = breaker()
    for second in range(200):
        found.failed(4.0 * second, is_probe=False)  # 7 or 8 in any 30 s
    assert found.circuit is Circuit.CLOSED


def test_one_probe_and_no_more() -> None:
    found = opened()
    assert (found.closed_for_s(0.5), found.begin(1.9)) == (1.5, None)
    assert found.closed_for_s(2.0) == 0
    assert (found.takes_one, found.wants_probe) == (True, True)
    assert [found.begin(2.0), found.begin(2.0), found.begin(2.1)] == [True, None, None]
    assert (found.takes_one, found.wants_probe) == (True, False)
    found.succeeded(3.0, is_probe=True)
    assert (found.circuit, found.begin(3.0)) == (Circuit.CLOSED, False)


def test_each_failed_probe_doubles_the_wait_up_to_its_bound() -> None:
    found, now, waits = opened(), 0.0, []
    for _ in range(8):
        wait_s = found.closed_for_s(now)
        waits.append(wait_s)
        now += wait_s
        assert found.begin(now) is True
        found.failed(now, is_probe=True)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    now += 60
    assert found.begin(now) is True
    found.succeeded(now, is_probe=True)
    for _ in range(10):
        found.failed(now, is_probe=False)
    assert found.closed_for_s(now) == 2  # it begins small again


def test_a_probe_that_says_nothing_makes_room_for_the_next() -> None:
    found = opened()
    assert found.begin(2.0) is True
    found.abandoned(is_probe=True)
    assert found.begin(2.0) is True


def test_an_account_that_is_refused_opens_it_at_once() -> None:
    found = breaker()
    found.refused(1.0, is_probe=False)
    assert found.closed_for_s(1.0) == 60


def test_calls_from_before_it_opened_say_nothing_of_the_probe() -> None:
    found = opened()
    found.succeeded(1.0, is_probe=False)
    assert found.circuit is Circuit.OPEN
    assert found.begin(2.0) is True
    found.succeeded(2.5, is_probe=False)
    found.failed(2.5, is_probe=False)
    found.refused(2.5, is_probe=False)
    assert found.circuit is Circuit.HALF_OPEN
