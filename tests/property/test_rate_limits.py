"""Rate limits, whatever the traffic: never too many in any second, none lost, nobody overtaken."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from provider_double import most_in_a_second
from virtual_clock import VirtualClock

from pipeline.errors import HeldBackError
from pipeline.notifications.pools.rate_gate import RateGate, RecipientRates
from pipeline.notifications.pools.token_bucket import TokenBucket

FEW = settings(max_examples=40, deadline=None)

RATES = st.floats(0.1, 2000)
GAPS = st.lists(st.floats(0, 3) | st.floats(0, 0.01), min_size=1, max_size=200)


@FEW
@given(RATES, GAPS)
def test_a_bucket_lets_no_more_through_than_its_rate_and_one_burst(rate: float, gaps: list[float]) -> None:
    bucket, now, sent = TokenBucket(rate, 0.0), 0.0, []
    for gap in gaps:
        now += gap
        while bucket.take(now):
            sent.append(now)
    assert not sent or most_in_a_second(sent) <= rate + bucket.burst + 1e-6


@FEW
@given(RATES, GAPS)
def test_a_bucket_says_when_the_next_token_is_there(rate: float, gaps: list[float]) -> None:
    bucket, now = TokenBucket(rate, 0.0), 0.0
    for gap in gaps:
        now += gap
        wait_s = bucket.wait_s(now)
        assert bucket.take(now) == (wait_s == 0)
        if wait_s > 1e-3:  # not before, and then it is
            assert not bucket.take(now + 0.9 * wait_s)
            now += wait_s + 1e-6
            assert bucket.take(now)


@FEW
@given(st.floats(0.5, 400), st.lists(st.floats(0, 0.3), min_size=1, max_size=60), st.floats(0.01, 5))
def test_a_gate_keeps_order_and_rate_and_holds_nobody_longer_than_promised(
    rate: float, gaps: list[float], wait_max_s: float
) -> None:
    asyncio.run(_crowd_at_a_gate(rate, gaps, wait_max_s))


async def _crowd_at_a_gate(rate: float, gaps: list[float], wait_max_s: float) -> None:
    clock = VirtualClock()
    gate = RateGate(rate, wait_max_s=wait_max_s, clock=clock)
    passed: list[tuple[float, int]] = []
    held: list[int] = []

    async def come(number: int) -> None:
        came = clock.monotonic()
        try:
            await gate.enter()
        except HeldBackError as error:
            assert clock.monotonic() == came  # at once
            assert error.retry_after_s is not None
            assert error.retry_after_s > wait_max_s
            held.append(number)
        else:
            assert clock.monotonic() - came <= wait_max_s + 1e-6
            passed.append((clock.monotonic(), number))

    tasks = []
    for number, gap in enumerate(gaps):
        await clock.pass_by(gap)
        tasks.append(asyncio.create_task(come(number)))
    await clock.run(asyncio.gather(*tasks))
    numbers = [number for _, number in passed]
    assert numbers == sorted(numbers)
    assert sorted(numbers + held) == list(range(len(gaps)))
    times = [time for time, _ in passed]
    assert not times or most_in_a_second(times) <= rate + max(1, rate * 0.05) + 1e-6


async def test_who_gives_up_waiting_takes_no_token() -> None:
    clock = VirtualClock()
    gate = RateGate(1.0, wait_max_s=10, clock=clock)
    await gate.enter()
    waiting = [asyncio.create_task(gate.enter()) for _ in range(3)]
    await clock.pass_by(0.5)
    waiting[0].cancel()
    waiting[1].cancel()
    await clock.pass_by(0.6)  # the second token comes at 1.0
    assert waiting[2].done()
    assert not waiting[2].cancelled()


async def test_nobody_slips_in_before_the_first_of_the_queue_has_woken() -> None:
    clock = VirtualClock()
    gate = RateGate(1.0, wait_max_s=10, clock=clock)
    await gate.enter()
    first = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    clock.time += 1.0  # its token is there, but it still sleeps
    second = asyncio.create_task(gate.enter())
    await clock.pass_by(0)
    assert (first.done(), second.done()) == (True, False)
    await clock.pass_by(1)
    assert second.done()


async def test_each_recipient_has_a_rate_of_its_own_and_the_table_is_bounded() -> None:
    clock = VirtualClock()
    rates = RecipientRates(6, recipients_max=100, wait_max_s=1, clock=clock)
    held = 0
    for number in range(1000):
        await rates.enter(f"r-{number}")
        try:
            await rates.enter(f"r-{number}")
        except HeldBackError as error:
            held += 1
            assert error.retry_after_s is not None
            assert 9 < error.retry_after_s <= 10
    assert held == 1000
    assert "100 recipients" in repr(rates)
    assert not RecipientRates(0, recipients_max=1, wait_max_s=1, clock=clock).is_limited
