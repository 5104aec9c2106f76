"""Who asks too often waits; and whose address it is that asks."""

import pytest
from virtual_clock import VirtualClock

from consumers.api.addresses import Addresses
from consumers.web.rate_limits import RateLimits


def test_a_burst_and_then_a_rate() -> None:
    clock = VirtualClock()
    limits = RateLimits(per_s=10, burst=5, clock=clock)
    assert [limits.take("a") for _ in range(5)] == [0.0] * 5
    assert limits.take("a") == pytest.approx(0.1)
    assert limits.take("b") == 0.0
    clock.time += 0.1001
    assert limits.take("a") == 0.0
    assert limits.take("a") > 0
    clock.time += 60
    assert [limits.take("a") for _ in range(6)].count(0.0) == 5


def test_those_who_are_refused_do_not_wait_longer_for_it() -> None:
    clock = VirtualClock()
    limits = RateLimits(per_s=1, burst=1, clock=clock)
    assert limits.take("a") == 0.0
    assert [limits.take("a") for _ in range(1000)] == [pytest.approx(1.0)] * 1000


def test_of_many_the_one_not_heard_of_for_longest_is_forgotten() -> None:
    limits = RateLimits(per_s=0.001, burst=1, clock=VirtualClock())
    for number in range(10_000):
        limits.take(str(number))
    assert limits.take("0") > 0  # heard of again
    limits.take("one more")
    assert limits.take("0") > 0
    assert limits.take("1") == 0.0
    assert repr(limits) == "RateLimits(10000 keys)"


def scope(peer: str | None, *hops: str) -> dict[str, object]:
    headers = [(b"x-forwarded-for", hop.encode()) for hop in hops]
    return {"client": (peer, 1234) if peer else None, "headers": headers}


CASES = [
    # Nobody is trusted: the header can be anybody's.
    ((), "203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
    (("10.0.0.0/8",), "203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
    # A proxy of ours: its entry, the last one, counts, and those before it are the caller's own words.
    (("10.0.0.0/8",), "10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
    (("10.0.0.0/8",), "10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
    # Two of them.
    (("10.0.0.0/8",), "10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    # What is no address ends the search.
    (("10.0.0.0/8",), "10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
    (("10.0.0.0/8",), "10.0.0.1", [], "10.0.0.1"),
    # One subscriber has a whole /64.
    ((), "2001:db8::1:2:3:4", [], "2001:db8::/64"),
    ((), "::ffff:203.0.113.7", [], "203.0.113.7"),
    ((), None, ["198.51.100.1"], "unknown"),
    ((), "no address", [], "unknown"),
]


@pytest.mark.parametrize(("trusted", "peer", "hops", "key"), CASES)
def test_the_caller_s_address(trusted: tuple[str, ...], peer: str | None, hops: list[str], key: str) -> None:
    assert Addresses(trusted).key_of(scope(peer, *hops)) == key


def test_a_long_header_costs_no_more_than_its_end() -> None:
    hops = ", ".join(["10.0.0.1"] * 1000)
    assert Addresses(["10.0.0.0/8"]).key_of(scope("10.0.0.1", f"198.51.100.1, {hops}")) == "10.0.0.1"
