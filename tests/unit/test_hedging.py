"""Who is asked, when the second server is, what that may cost, and what becomes of the one not waited for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StorageRejectedError, StorageTimeoutError, StorageUnavailableError
from pipeline.reading.endpoint import Endpoint
from pipeline.reading.hedging import Contest, HedgeBudget, Plan, are_slow, cheapest_first, hedge_delay_s
from pipeline.reading.latency import Latency
from pipeline.settings import ReadSettings

SHORT_S = 0.01
LONG_S = 30.0  # never waited out
SETTINGS = ReadSettings(loser_limit_s=0.05, losers_max=2)


class Wire:
    """A connection: tells whether it was dropped."""

    def __init__(self) -> None:
        self.is_terminated = asyncio.Event()

    def terminate(self) -> None:
        self.is_terminated.set()


class Server:
    """Stands for a node: lends connections, counts them, and may not open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = f"{name}:5432"
        self.wires: list[Wire] = []
        self.opened = 0
        self.refuses = False
        self.is_released = asyncio.Event()

    async def open(self) -> None:
        self.opened += 1
        await asyncio.sleep(0)
        if self.refuses:
            raise StorageUnavailableError(f"{self.name}: connection refused")

    async def close(self) -> None:
        pass

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Wire]:
        wire = Wire()
        self.wires.append(wire)
        try:
            yield wire
        finally:
            self.is_released.set()


def endpoint(name: str, settings: ReadSettings = SETTINGS) -> Endpoint:
    return Endpoint(Server(name), settings)  # type: ignore[arg-type]


def answering(**how: Any) -> Callable[[Endpoint, Wire], Awaitable[str]]:
    """What each server does: an exception, "hang" (until its connection is dropped), or an answer."""

    async def ask(asked: Endpoint, wire: Wire) -> str:
        outcome = how[asked.node.name]
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
            return "late"
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == "hang":
            await wire.is_terminated.wait()
            raise StorageUnavailableError("connection dropped")
        return outcome

    return ask


def away(name: str) -> StorageUnavailableError:
    return StorageUnavailableError(f"{name} is away")


async def run(contest: Contest, timeout_s: float = LONG_S) -> str:
    winner = await contest.run(timeout_s)
    return winner.answer.result()


# --- who answers -------------------------------------------------------------------------------------


async def test_the_first_server_alone_is_asked_when_it_answers() -> None:
    one, two = endpoint("one"), endpoint("two")
    contest = Contest(
        [one, two], answering(one="1", two="2"), budget=HedgeBudget(1), plan=Plan(delay_s=LONG_S)
    )
    assert await run(contest) == "1"
    assert (one.asked, two.asked) == (1, 0)


async def test_the_second_is_asked_when_the_first_takes_long() -> None:
    one, two = endpoint("one"), endpoint("two")
    contest = Contest(
        [one, two], answering(one="hang", two="2"), budget=HedgeBudget(1), plan=Plan(delay_s=SHORT_S)
    )
    assert await run(contest) == "2"
    assert (one.asked, two.asked, contest.asked) == (1, 1, 2)


async def test_the_first_may_still_win_after_a_hedge() -> None:
    one, two, gate = endpoint("one"), endpoint("two"), asyncio.Event()
    contest = Contest(
        [one, two], answering(one=gate, two="hang"), budget=HedgeBudget(1), plan=Plan(delay_s=SHORT_S)
    )
    running = asyncio.create_task(run(contest))
    while not two.asked:  # noqa: ASYNC110  # the hedge sets no signal
        await asyncio.sleep(0.001)
    gate.set()
    assert await running == "late"


async def test_a_race_asks_both_at_once_and_takes_the_quicker() -> None:
    one, two = endpoint("one"), endpoint("two")
    contest = Contest(
        [one, two], answering(one="hang", two="2"), budget=HedgeBudget(0), plan=Plan(at_once=True)
    )
    assert await run(contest) == "2"
    assert (one.asked, two.asked) == (1, 1)


async def test_a_failure_is_no_answer_and_needs_no_hedge() -> None:
    one, two, budget = endpoint("one"), endpoint("two"), HedgeBudget(0)
    budget.spend()
    for at_once in (False, True):
        contest = Contest(
            [one, two], answering(one=away("one"), two="2"), budget=budget, plan=Plan(at_once=at_once)
        )
        assert await run(contest) == "2"


async def test_when_both_fail_both_are_named() -> None:
    contest = Contest(
        [endpoint("one"), endpoint("two")],
        answering(one=away("one"), two=away("two")),
        budget=HedgeBudget(1),
    )
    with pytest.raises(StorageUnavailableError, match="one is away; two is away"):
        await run(contest)


async def test_data_that_no_server_takes_is_not_tried_twice() -> None:
    one, two = endpoint("one"), endpoint("two")
    contest = Contest(
        [one, two], answering(one=StorageRejectedError("22021"), two="2"), budget=HedgeBudget(1)
    )
    with pytest.raises(StorageRejectedError):
        await run(contest)
    assert two.asked == 0


async def test_no_answer_in_time_names_who_did_not_answer() -> None:
    contest = Contest(
        [endpoint("one"), endpoint("two")], answering(one="hang", two="hang"), budget=HedgeBudget(1)
    )
    with pytest.raises(StorageTimeoutError, match="one: no answer in time"):
        await run(contest, timeout_s=SHORT_S)


async def test_a_defect_of_ours_is_raised_as_it_is() -> None:
    contest = Contest([endpoint("one")], answering(one=KeyError("defect")), budget=HedgeBudget(1))
    with pytest.raises(KeyError):
        await run(contest)


# --- what it may cost ----------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=400))
def test_hedges_stay_below_their_share_of_all_reads(wants: list[bool]) -> None:
    budget, spent = HedgeBudget(0.05), 0
    for number, is_wanted in enumerate(wants, start=1):
        budget.earn()
        spent += is_wanted and budget.spend()
        assert spent <= 1 + 0.05 * number


def test_repeats_after_failures_are_paid_for_in_hedges() -> None:
    budget = HedgeBudget(0.05)
    budget.owe()
    budget.owe()
    for _ in range(40):
        budget.earn()
        assert not budget.spend()  # one owed, and one to be had: 2 / 0.045 reads
    for _ in range(5):
        budget.earn()
    assert budget.spend()


async def test_without_a_hedge_left_the_second_is_not_asked() -> None:
    one, two, budget = endpoint("one"), endpoint("two"), HedgeBudget(0)
    assert budget.spend()
    contest = Contest([one, two], answering(one="hang", two="2"), budget=budget, plan=Plan(delay_s=0.001))
    with pytest.raises(StorageTimeoutError):
        await run(contest, timeout_s=0.05)
    assert two.asked == 0


async def test_a_read_that_was_refused_a_hedge_gets_the_next_there_is() -> None:
    one, two, budget = endpoint("one"), endpoint("two"), HedgeBudget(2)
    assert budget.spend()
    contest = Contest([one, two], answering(one="hang", two="2"), budget=budget, plan=Plan(delay_s=0.001))
    running = asyncio.create_task(run(contest))
    await asyncio.sleep(0.02)
    assert two.asked == 0
    budget.earn()
    assert await running == "2"


async def test_a_server_that_takes_too_long_is_away_whatever_the_budget() -> None:
    one, two, budget = endpoint("one"), endpoint("two"), HedgeBudget(0)
    assert budget.spend()
    plan = Plan(delay_s=0.001, patience_s=SHORT_S)
    assert await run(Contest([one, two], answering(one="hang", two="2"), budget=budget, plan=plan)) == "2"
    assert (one.asked, two.asked) == (1, 1)


async def test_no_second_request_where_losers_hold_the_connections() -> None:
    one, two = endpoint("one"), endpoint("two", ReadSettings(losers_max=1, loser_limit_s=LONG_S))
    loser = two.start(answering(two="hang"))
    await asyncio.sleep(0)
    loser.abandon()
    contest = Contest(
        [one, two], answering(one="hang", two="2"), budget=HedgeBudget(1), plan=Plan(delay_s=0.001)
    )
    with pytest.raises(StorageTimeoutError):
        await run(contest, timeout_s=0.05)
    loser.cut()


# --- the delay -----------------------------------------------------------------------------------------


def measured(*seconds: float) -> Endpoint:
    made = Endpoint(Server("measured"), SETTINGS)  # type: ignore[arg-type]
    for number, took_s in enumerate(seconds):
        made.latency.observe(took_s, now=float(number))
    return made


def delay(*endpoints: Endpoint) -> float:
    return hedge_delay_s(endpoints, initial_s=0.01, least_s=0.001)


def test_the_delay_is_the_95th_percentile_of_the_healthier_server() -> None:
    healthy = measured(*(number / 10_000 for number in range(1, 101)))
    degraded = measured(*[0.001] * 80, *[0.5] * 20)
    assert delay(healthy, degraded) == pytest.approx(0.0095)
    assert delay(degraded) == 0.5


def test_the_delay_is_the_given_one_until_enough_is_measured() -> None:
    assert delay(measured(), measured(0.5)) == 0.01
    assert delay(measured(*[0.000_01] * 32)) == 0.001


def test_both_are_slow_when_the_median_answer_of_each_is() -> None:
    slow, healthy = measured(*[0.2] * 32), measured(*[0.002] * 20, *[0.2] * 12)
    assert are_slow([slow, slow], 0.1)
    assert not are_slow([slow, healthy], 0.1)
    assert not are_slow([slow, measured()], 0.1)


def test_old_answers_are_forgotten() -> None:
    latency = Latency(half_life_s=5)
    for number in range(1000):
        latency.observe(1.0 if number < 700 else 0.001, now=number / 100)
    assert latency.percentile_s(0.99) == 0.001
    assert len(latency._ring) == 256


def test_the_server_that_is_likely_to_answer_sooner_is_asked_first() -> None:
    quick, slow, unknown = measured(*[0.001] * 20), measured(*[0.05] * 20), measured()
    assert cheapest_first(replica=quick, primary=slow, now=20.0)[0] is quick
    assert cheapest_first(replica=slow, primary=quick, now=20.0)[0] is quick
    assert cheapest_first(replica=unknown, primary=quick, now=20.0)[0] is unknown
    even = measured(*[0.001] * 20)
    assert cheapest_first(replica=quick, primary=even, now=20.0)[0] is quick


def test_a_server_that_was_slow_long_ago_is_tried_again() -> None:
    quick, slow = measured(*[0.001] * 20), measured(*[0.05] * 20)
    quick.latency.observe(0.001, now=120.0)
    assert cheapest_first(replica=slow, primary=quick, now=120.0)[0] is slow


async def test_a_server_that_hangs_is_passed_over_before_anything_is_measured() -> None:
    replica, primary = measured(*[0.001] * 20), measured(*[0.001] * 20)
    stuck = replica.start(answering(measured="hang"))
    await asyncio.sleep(0)
    assert cheapest_first(replica, primary, now=20.0)[0] is primary
    stuck.abandon()
    stuck.cut()


# --- losers ----------------------------------------------------------------------------------------------


async def test_a_loser_is_left_to_finish() -> None:
    one, two, gate = endpoint("one", ReadSettings(loser_limit_s=LONG_S)), endpoint("two"), asyncio.Event()
    contest = Contest(
        [one, two], answering(one=gate, two="2"), budget=HedgeBudget(1), plan=Plan(delay_s=SHORT_S)
    )
    assert await run(contest) == "2"
    [loser] = one.losers
    gate.set()
    await asyncio.wait({loser.task})
    assert (one.losers, one.pending) == ([], set())
    [wire] = one.node.wires
    assert not wire.is_terminated.is_set()
    assert one.latency.recent_s(loser.began) > 0


async def test_a_loser_is_cut_off_at_its_limit_without_being_cancelled() -> None:
    one, two = endpoint("one"), endpoint("two")
    contest = Contest(
        [one, two], answering(one="hang", two="2"), budget=HedgeBudget(1), plan=Plan(delay_s=SHORT_S)
    )
    assert await run(contest) == "2"
    [loser] = one.losers
    await asyncio.wait_for(asyncio.wait({loser.task}), timeout=5)
    [wire] = one.node.wires
    assert wire.is_terminated.is_set()
    assert not loser.task.cancelled()
    assert (one.losers, one.pending) == ([], set())


async def test_losers_beyond_their_number_are_cut_off_the_oldest_first() -> None:
    one = endpoint("one", ReadSettings(losers_max=2, loser_limit_s=LONG_S))
    attempts = [one.start(answering(one="hang")) for _ in range(3)]
    await asyncio.sleep(0.01)
    for attempt in attempts:
        attempt.abandon()
    await asyncio.wait({attempts[0].task}, timeout=5)
    assert [wire.is_terminated.is_set() for wire in one.node.wires] == [True, False, False]
    assert one.losers == attempts[1:]
    for attempt in attempts[1:]:
        attempt.cut()
    await asyncio.wait({attempt.task for attempt in attempts})


async def test_a_caller_that_goes_away_leaves_losers_not_cancelled_queries() -> None:
    one = endpoint("one", ReadSettings(loser_limit_s=LONG_S))
    running = asyncio.create_task(run(Contest([one], answering(one="hang"), budget=HedgeBudget(1))))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    [loser] = one.losers
    assert not loser.task.done()
    loser.cut()
    await asyncio.wait({loser.task})
    assert not loser.task.cancelled()


async def test_the_answer_does_not_wait_for_the_connection_to_go_back() -> None:
    """Giving it back may take the pool a round trip."""
    one, back, wire = endpoint("one"), asyncio.Event(), Wire()

    @asynccontextmanager
    async def lend() -> AsyncIterator[Wire]:
        yield wire
        await back.wait()

    one.node.connection = lend  # type: ignore[method-assign]
    assert await asyncio.wait_for(run(Contest([one], answering(one="1"), budget=HedgeBudget(1))), 5) == "1"
    [attempt] = one.pending
    attempt.cut()  # what goes back is the pool's: it is not dropped any more
    await asyncio.wait({attempt.task})
    assert not wire.is_terminated.is_set()


async def test_closing_waits_for_losers_within_their_limit() -> None:
    one = endpoint("one")
    attempt = one.start(answering(one="hang"))
    await asyncio.sleep(0.01)
    attempt.abandon()
    await asyncio.wait_for(one.close(), timeout=5)
    assert one.pending == set()


# --- opening ---------------------------------------------------------------------------------------------


async def test_a_pool_is_opened_once_for_all_who_ask_at_the_same_time() -> None:
    one = endpoint("one")
    attempts = [one.start(answering(one="1")) for _ in range(5)]
    await asyncio.wait({attempt.answer for attempt in attempts})
    assert one.node.opened == 1


async def test_a_server_that_cannot_be_reached_is_not_tried_at_every_read() -> None:
    one = endpoint("one")
    one.node.refuses = True
    for _ in range(3):
        with pytest.raises(StorageUnavailableError, match="one: connection refused"):
            await run(Contest([one], answering(one="1"), budget=HedgeBudget(1)))
    assert one.node.opened == 1
