"""Providers behind their limits: who gets a message, who steps in, and who is left alone."""

import asyncio

import pytest
from provider_double import changed, most_in_a_second, slots_of, sms, world

from pipeline.errors import (
    AccountRefusedError,
    HeldBackError,
    LeaseEndedError,
    OutcomeUnknownError,
    RecipientRefusedError,
    RejectedError,
    ThrottledError,
)
from pipeline.notifications.pools.breaker import Circuit

AWAY = ThrottledError("unreachable", "no connection")


async def outcome(w, slots, *messages, attempt: int = 1) -> list:
    """What became of messages sent at the same time: a provider's name, or an error."""
    sends = (slots.send(message, attempt) for message in messages)
    found = await w.clock.run(asyncio.gather(*sends, return_exceptions=True))
    return [getattr(one, "provider", one) for one in found]


async def one(w, slots, *, attempt: int = 1, to: str = "+1"):
    return (await outcome(w, slots, sms(to=to), attempt=attempt))[0]


def workers(slots) -> int:
    """How many may work, after a claim has asked for places."""
    slots.places()
    return slots.workers()


async def test_messages_are_shared_out_by_weight() -> None:
    w = world(first=0.0, second=0.0, spare=0.0)
    slots = slots_of(w.clock, w.first.slot(weight=3), w.second.slot(), w.spare.slot(weight=0))
    found = [await one(w, slots) for _ in range(8)]
    assert found == ["first", "first", "second", "first"] * 2


@pytest.mark.parametrize(
    "error",
    [
        AWAY,
        ThrottledError("20429", "too many", 60.0),
        AccountRefusedError("20003", "authenticate", 60.0),
    ],
)
async def test_the_other_steps_in_when_one_has_definitely_not_accepted(error) -> None:
    w = world(first=0.1, spare=0.1)
    slots = slots_of(w.clock, w.first.slot(), w.spare.slot(weight=0))
    w.first.answer = lambda _message: error
    assert await one(w, slots) == "spare"
    assert (len(w.first.calls), w.spare.accepted) == (1, [sms().effect_id])


@pytest.mark.parametrize(
    "error",
    [
        OutcomeUnknownError("no_reply", "lost"),
        RejectedError("21617", "too long"),
        RecipientRefusedError("21610", "opted out"),
        LeaseEndedError(),
    ],
)
async def test_nobody_steps_in_when_it_may_have_been_accepted_or_is_refused_itself(error) -> None:
    w = world(first=0.1, spare=0.1)
    slots = slots_of(w.clock, w.first.slot(), w.spare.slot(weight=0))
    w.first.answer = lambda _message: error
    assert await one(w, slots) is error
    assert w.spare.calls == []


async def test_when_nobody_can_the_soonest_counts() -> None:
    w = world(first=0.1, second=0.1)
    slots = slots_of(w.clock, w.first.slot(), w.second.slot())
    w.first.answer = lambda _message: ThrottledError("429", "", 60.0)
    w.second.answer = lambda _message: ThrottledError("429", "", 20.0)
    error = await one(w, slots)
    assert isinstance(error, ThrottledError)
    assert not isinstance(error, HeldBackError)  # they were asked, so it was a try
    assert error.retry_after_s == 20.0
    held = await one(w, slots)
    assert isinstance(held, HeldBackError)
    assert held.retry_after_s == pytest.approx(20.0, abs=0.3)


@pytest.mark.parametrize("seconds", [0.4, 1, 20])
async def test_retry_after_holds_for_the_whole_provider(seconds: float) -> None:
    w = world(only=0.01)
    slots = slots_of(w.clock, w.only.slot())
    w.only.answer = lambda _message: ThrottledError("20429", "", seconds)
    await one(w, slots)
    until = w.clock.time + seconds
    w.only.answer = lambda _message: None
    for _ in range(int(10 * seconds) + 20):
        await outcome(w, slots, *map(sms, range(3)))
        await w.clock.pass_by(0.1)
    assert len(w.only.calls) > 4
    assert w.only.calls[1] >= until
    assert w.only.calls[1] <= until + 0.2


async def test_a_provider_that_refuses_without_a_time_is_called_ever_more_seldom() -> None:
    pools = changed(breaker_calls_min=1_000_000)
    w = world(only=0.0)
    slots = slots_of(w.clock, w.only.slot(pools=pools), pools=pools)
    w.only.answer = lambda _message: AWAY
    for _ in range(600):
        await outcome(w, slots, sms())
        await w.clock.pass_by(0.1)
    assert 20 < len(w.only.calls) < 120  # 24 on average, once the waits are as long as they get
    w.only.answer = lambda message: AWAY if message.effect_id.endswith("0") else None
    await w.clock.pass_by(10)
    assert await outcome(w, slots, sms(1)) == ["only"]  # it is back: refusals are counted from nought
    before = w.clock.time
    await outcome(w, slots, *map(sms, range(16)))  # one message in sixteen that is put off does no harm
    assert w.clock.time == before


async def test_while_nobody_can_be_called_nothing_is_claimed() -> None:
    w = world(first=0.01, second=0.01)
    slots = slots_of(w.clock, w.first.slot(), w.second.slot())
    for provider, seconds in ((w.first, 30.0), (w.second, 10.0)):
        provider.answer = lambda _message, seconds=seconds: ThrottledError("429", "", seconds)
    await one(w, slots)
    waiting = asyncio.create_task(slots.until_open())
    await w.clock.pass_by(9.9)
    assert not waiting.done()
    await w.clock.pass_by(0.2)
    assert waiting.done()
    assert slots.places() > 0


async def test_an_outage_opens_the_circuit_and_a_single_message_tries_it() -> None:
    w = world(only=0.01)
    slots = slots_of(w.clock, slot := w.only.slot())
    w.only.answer = lambda _message: OutcomeUnknownError("503", "")
    await outcome(w, slots, *map(sms, range(10)))
    assert slot.breaker.circuit is Circuit.OPEN
    assert isinstance(await one(w, slots), HeldBackError)
    await w.clock.run(slots.until_open())
    assert (slots.places(), workers(slots)) == (1, 1)
    w.only.answer = lambda _message: None
    found = await outcome(w, slots, *map(sms, range(5)))
    assert [isinstance(one, HeldBackError) for one in found] == [False, True, True, True, True]
    assert slot.breaker.circuit is Circuit.CLOSED
    assert slots.places() > 1


async def test_an_account_that_is_refused_is_left_alone_at_once() -> None:
    w = world(only=0.01)
    slots = slots_of(w.clock, slot := w.only.slot())
    w.only.answer = lambda _message: AccountRefusedError("20003", "authenticate")
    assert isinstance(await one(w, slots), AccountRefusedError)
    assert slot.breaker.circuit is Circuit.OPEN
    assert (await one(w, slots)).retry_after_s == pytest.approx(60, abs=0.1)
    assert len(w.only.calls) == 1


async def test_a_fallback_carries_on_while_the_first_choice_is_tried() -> None:
    w = world(first=0.01, spare=0.01)
    slots = slots_of(w.clock, slot := w.first.slot(), w.spare.slot(weight=0))
    w.first.answer = lambda _message: AWAY
    assert set(await outcome(w, slots, *map(sms, range(12)))) == {"spare"}
    assert slot.breaker.circuit is Circuit.OPEN
    await w.clock.pass_by(3)
    w.first.took_s = 5.0  # the probe takes its time
    calls = len(w.first.calls)
    found = await outcome(w, slots, *map(sms, range(20)))
    assert set(found) == {"spare"}
    assert len(w.first.calls) == calls + 1
    assert workers(slots) > 1
    w.first.answer, w.first.took_s = lambda _message: None, 0.01
    await w.clock.pass_by(10)
    assert await one(w, slots) == "first"
    assert set(await outcome(w, slots, *map(sms, range(5)))) == {"first"}


async def test_a_probe_that_was_cancelled_makes_room_for_the_next() -> None:
    w = world(only=10.0)
    slots = slots_of(w.clock, slot := w.only.slot())
    slot.breaker.refused(w.clock.time, is_probe=False)
    await w.clock.run(slots.until_open())
    probe = asyncio.create_task(slots.send(sms(), 1))
    await w.clock.pass_by(1)
    probe.cancel()
    await w.clock.pass_by(1)
    assert await one(w, slots) == "only"


@pytest.mark.parametrize(("rate", "took_s"), [(2, 0.5), (10, 2.0), (50, 0.05)])
async def test_a_rate_limit_is_kept_and_used(rate: float, took_s: float) -> None:
    """With as many messages as the pool has room for, always: none goes back, and the rate is reached."""
    w = world(only=took_s)
    slots = slots_of(w.clock, slot := w.only.slot(rate_per_s=rate))
    held: list[HeldBackError] = []

    async def work() -> None:
        while w.clock.time < 1060 and len(busy) <= workers(slots):
            try:
                await slots.send(sms(), 1)
            except HeldBackError as error:
                held.append(error)
                await w.clock.sleep(0.1)

    busy: set[asyncio.Task] = set()
    while w.clock.time < 1060:
        while len(busy) < workers(slots):
            task = asyncio.create_task(work())
            busy.add(task)
            task.add_done_callback(busy.discard)
        await w.clock.pass_by(0.5)
    await w.clock.pass_by(10)
    calls = w.only.calls
    burst = max(1, 0.05 * rate)
    assert most_in_a_second(calls) <= rate + burst + 1e-6
    assert len(held) <= 0.01 * len(calls)
    assert len(calls) >= 0.9 * rate * 60
    assert slot.in_flight == 0


async def test_a_slow_rate_closes_the_slot_instead_of_claiming_in_vain() -> None:
    w = world(only=0.0)
    slots = slots_of(w.clock, w.only.slot(rate_per_s=0.1))
    assert await one(w, slots) == "only"
    waiting = asyncio.create_task(slots.until_open())
    await w.clock.pass_by(8.9)
    assert not waiting.done()
    await w.clock.pass_by(0.2)
    assert waiting.done()
    assert slots.places() == 2


async def test_a_recipient_has_a_rate_and_a_message_held_back_costs_no_token() -> None:
    w = world(only=0.0)
    slots = slots_of(w.clock, w.only.slot(), per_minute=6)
    assert [await one(w, slots, to="+1"), await one(w, slots, to="+2")] == ["only"] * 2
    held = await one(w, slots, to="+1")
    assert isinstance(held, HeldBackError)
    assert held.retry_after_s == pytest.approx(10)
    slots.slots[0]._hold(w.clock.time + 2)
    assert (await one(w, slots, to="+3")).code == "retry_after"
    await w.clock.run(slots.until_open())
    assert await one(w, slots, to="+3") == "only"


async def test_whoever_came_too_late_to_call_used_up_nothing() -> None:
    """Neither of the provider's rate, nor of the recipient's, nor of the budget of tries again."""
    w = world(only=0.0)
    slots = slots_of(w.clock, w.only.slot(rate_per_s=0.5), per_minute=6)
    w.only.answer = lambda _message: LeaseEndedError()
    before = slots.budget.left(w.clock.monotonic())
    for _ in range(20):
        assert isinstance(await one(w, slots, attempt=2), LeaseEndedError)
    assert slots.budget.left(w.clock.monotonic()) == before
    w.only.answer = lambda _message: None
    assert await one(w, slots, attempt=2) == "only"


async def test_the_budget_of_tries_again_holds_under_a_total_outage() -> None:
    """Every message fails and comes again, with the breaker out of the way: I15."""
    pools = changed(breaker_calls_min=1_000_000)
    w = world(only=0.0)
    slots = slots_of(w.clock, slot := w.only.slot(pools=pools), pools=pools)
    slot._hold = lambda _until: None  # nor does the provider get a rest
    w.only.answer = lambda _message: AWAY
    tries: list[tuple[float, int]] = []
    for second in range(120):
        for attempt in (1, 1, 1, 1, 1, 2, 2, 3, 4, 5):
            if not isinstance(await one(w, slots, attempt=attempt), HeldBackError):
                tries.append((w.clock.time, attempt))
        await w.clock.pass_by(1)
        minute = [attempt for at, attempt in tries if at > w.clock.time - 60]
        if second >= 60:
            first = minute.count(1)
            assert 0.15 * first < len(minute) - first <= 0.2 * first + 6
    w.only.answer = lambda _message: None
    await w.clock.pass_by(60)
    assert [await one(w, slots, attempt=2) for _ in range(500)] == ["only"] * 500  # what succeeds is free
