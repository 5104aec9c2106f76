"""The textbook's formulas, against the textbook's values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.planning.queueing import erlang_c, servers_for, service_from_waiting_s, waiting_s


@pytest.mark.parametrize(
    ("servers", "offered", "waits"),
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (2, 1.6, 0.7111), (4, 2.8, 0.4287), (10, 8.0, 0.4092), (3, 0.0, 0.0)],
)
def test_erlang_c(servers: int, offered: float, waits: float) -> None:
    assert erlang_c(servers, offered) == pytest.approx(waits, abs=1e-4)


def test_more_work_than_servers_always_waits() -> None:
    assert erlang_c(4, 4.0) == 1.0
    assert waiting_s(0.001, 4, 1.0, 0.99) == math.inf


def test_a_hundred_thousand_servers_do_not_overflow() -> None:
    assert 0 < erlang_c(100_000, 99_000) < 1


def test_one_server_is_the_exact_m_m_1() -> None:
    # P(wait > t) = rho * exp(-(1 - rho) t / service)
    assert waiting_s(0.01, 1, 0.8, 0.99) == pytest.approx(0.01 / 0.2 * math.log(0.8 / 0.01))


def test_nobody_of_the_share_waits_on_an_idle_machine() -> None:
    assert waiting_s(0.01, 4, 0.05, 0.99) == 0.0


@given(st.floats(0.2, 0.97), st.integers(1, 64), st.floats(0.001, 10))
def test_the_service_time_comes_back_out_of_the_wait(busy: float, servers: int, service: float) -> None:
    wait = waiting_s(service, servers, busy, 0.99)
    if wait > 0:
        assert service_from_waiting_s(wait, servers, busy, 0.99) == pytest.approx(service)


@given(st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.integers(1, 32))
def test_busier_waits_longer(one: float, other: float, servers: int) -> None:
    less, more = sorted((one, other))
    assert waiting_s(0.01, servers, less, 0.99) <= waiting_s(0.01, servers, more, 0.99)


@given(st.floats(0.01, 2000))
def test_the_fewest_servers_at_which_one_in_a_hundred_waits(offered: float) -> None:
    servers = servers_for(offered)
    assert erlang_c(servers, offered) <= 0.01
    assert servers == 1 or erlang_c(servers - 1, offered) > 0.01


def test_what_is_needed_beyond_the_load_grows_as_its_square_root() -> None:
    beyond = [(servers_for(load) - load) / math.sqrt(load) for load in (100, 1000, 10_000)]
    assert beyond == pytest.approx([2.4, 2.4, 2.4], abs=0.15)
