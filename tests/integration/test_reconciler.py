"""Unknown outcomes on a real shard: providers are asked, then the policy decides, and each message once."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

import pytest
from ledger import Ledger, accepted
from real_stack import Bench

from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.notifications.inquiry import Inquiry
from pipeline.notifications.provider import CannotTell, Evidence, Found, NotFound
from pipeline.notifications.reconciler import PAGE_MAX, Reconciler
from pipeline.observability.metrics import Metrics
from pipeline.settings import EffectSettings
from pipeline.storage.outbox import Channel, Claim, State

pytestmark = pytest.mark.integration

SOON = EffectSettings(ask_after_s=0.001, ask_interval_s=0.05, ask_max=3)
SILENT = CannotTell("timeout", is_final=False)
NEVER = CannotTell("no_way_to_ask", is_final=True)


class Provider:
    """Has an answer to every question, and remembers who was asked about."""

    def __init__(self, *answers: Evidence) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[Claim, datetime]] = []

    async def ask(self, claim: Claim, since: datetime) -> Evidence:
        self.asked.append((claim, since))
        await asyncio.sleep(0)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def reconciler(
    bench: Bench, provider: Provider, settings: EffectSettings = SOON, *, attempts_max: int = 8
) -> tuple[Reconciler, Metrics, list[BaseException]]:
    metrics, crashes = Metrics(), []
    ask = dict.fromkeys(Channel, provider.ask)
    made = Reconciler(
        bench.cluster,
        Inquiry(settings, ask, attempts_max=attempts_max, metrics=metrics),
        tell=lambda _shard: None,
        interval_s=0.01,
        metrics=metrics,
        clock=SystemClock(),
        tasks=Tasks(lambda _name, error: crashes.append(error)),
    )
    return made, metrics, crashes


async def asked_until(
    bench: Bench, ledger: Ledger, provider: Provider, state: State, settings: EffectSettings = SOON
) -> Metrics:
    """Let a reconciler run until all messages of the ledger have come to a state."""
    made, metrics, crashes = reconciler(bench, provider, settings)
    await made.start()

    async def all_there() -> bool:
        return set(await ledger.states()) == {state}

    try:
        await bench.until(all_there, f"all {state}")
    finally:
        await made.stop()
    assert crashes == []
    return metrics


async def test_a_message_that_the_provider_has_is_accepted(bench: Bench) -> None:
    ledger = Ledger(bench)
    [claim] = await ledger.unknown(1)
    provider = Provider(Found("twilio", "SM1", "sent"))
    metrics = await asked_until(bench, ledger, provider, State.ACCEPTED)
    [row] = await ledger.rows()
    assert (row["provider"], row["provider_id"], row["provider_status"]) == ("twilio", "SM1", "sent")
    assert row["accepted_at"] is not None
    [(asked, since)] = provider.asked
    assert (asked.effect_id, asked.phone, asked.total) == (claim.effect_id, claim.phone, claim.total)
    assert since == row["claimed_at"]
    assert [note["what"] for note in await ledger.notes()] == ["unknown", "resolved"]
    assert metrics.inquiries.labels("sms", "found")._value.get() == 1


@pytest.mark.parametrize(
    ("word", "state"), [("delivered", State.DELIVERED), ("undelivered", State.UNDELIVERED)]
)
async def test_a_message_that_the_provider_is_done_with_is_settled(
    bench: Bench, word: str, state: State
) -> None:
    ledger = Ledger(bench)
    await ledger.unknown(1)
    await asked_until(bench, ledger, Provider(Found("twilio", "SM1", word)), state)
    [row] = await ledger.rows()
    assert row["settled_at"] is not None
    assert row["reason"] == (word if state is State.UNDELIVERED else None)


async def test_a_message_that_nobody_has_is_sent_again_and_the_try_does_not_count(bench: Bench) -> None:
    ledger = Ledger(bench)
    [lost] = await ledger.unknown(1)
    await asked_until(bench, ledger, Provider(NotFound()), State.PENDING)
    [again] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
    assert (again.effect_id, again.attempt) == (lost.effect_id, lost.attempt)


async def test_who_cannot_tell_is_asked_again_ever_later_and_then_it_is_a_persons(bench: Bench) -> None:
    ledger = Ledger(bench)
    await ledger.unknown(1)
    provider = Provider(SILENT)
    made, metrics, _ = reconciler(bench, provider)
    await made.start()

    async def left_to_a_person() -> bool:
        [row] = await ledger.rows()
        return row["due_at"].year > 9000

    await bench.until(left_to_a_person, "asked as often as is allowed")
    gauge = metrics.unknown_effects.labels(ledger.shard.name, "sms")._value

    async def is_counted() -> bool:
        return gauge.get() == 1

    await bench.until(is_counted, "the gauge shows it")
    await made.stop()
    assert len(provider.asked) == SOON.ask_max
    assert [note["detail"] for note in await ledger.notes()] == [
        *("lease_expired", "cannot_tell:timeout", "cannot_tell:timeout", "cannot_tell:timeout person")
    ]
    assert await ledger.states() == [State.UNKNOWN]


@pytest.mark.parametrize(
    ("policy", "state", "attempt"),
    [("prefer-miss", State.ABANDONED, None), ("prefer-duplicate", State.PENDING, 2)],
)
async def test_the_policy_decides_where_nobody_can_tell(
    bench: Bench, policy: str, state: State, attempt: int | None
) -> None:
    ledger = Ledger(bench)
    await ledger.unknown(1)
    settings = EffectSettings(ask_after_s=0.001, order_sms_policy=policy)  # type: ignore[arg-type]
    await asked_until(bench, ledger, Provider(NEVER), state, settings)
    claims = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
    assert [claim.attempt for claim in claims] == ([attempt] if attempt else [])


async def test_a_mail_is_sent_again_as_the_same_message_but_not_for_ever(bench: Bench) -> None:
    ledger = Ledger(bench, Channel.EMAIL)
    await ledger.unknown(1)
    provider = Provider(NEVER)
    made, _, _ = reconciler(bench, provider, attempts_max=3)
    await made.start()
    for _ in range(2):
        await bench.until(is_pending(ledger), "pending again")
        await ledger.end_leases(await ledger.outbox.claim(Channel.EMAIL, 1, uuid4()))

    async def is_a_persons() -> bool:
        return (await ledger.notes())[-1]["detail"] == "cannot_tell:no_way_to_ask person"

    await bench.until(is_a_persons, "left to a person after three tries")
    await made.stop()
    assert await ledger.states() == [State.UNKNOWN]


def is_pending(ledger: Ledger) -> Callable[[], object]:
    async def pending() -> bool:
        return await ledger.states() == [State.PENDING]

    return pending


async def test_nobody_is_asked_while_the_call_may_still_be_under_way(bench: Bench) -> None:
    ledger = Ledger(bench)
    await ledger.unknown(1)
    provider = Provider(NotFound())
    made, _, _ = reconciler(bench, provider, EffectSettings(ask_after_s=30.0))
    await made.start()
    await bench.until(sweeps(made, bench), "several looks")
    await made.stop()
    assert provider.asked == []
    assert await ledger.states() == [State.UNKNOWN]


def sweeps(made: Reconciler, bench: Bench) -> Callable[[], object]:
    """Wait until the gauges have been set some times over, each time after a look at what is unknown."""
    before = made._metrics.unknown_oldest_seconds

    async def looked_again() -> bool:
        values = [before.labels(shard.name, "sms")._value.get() for shard in bench.cluster]
        return max(values) > 0.2

    return looked_again


async def test_several_processes_ask_about_each_message_once(bench: Bench) -> None:
    ledger = Ledger(bench)
    await ledger.unknown(2 * PAGE_MAX + 5)
    settings = EffectSettings(ask_after_s=0.001, ask_interval_s=60.0)
    provider = Provider(Found("twilio", "SM1"))
    made = [reconciler(bench, provider, settings)[0] for _ in range(3)]
    for one in made:
        await one.start()

    async def all_accepted() -> bool:
        return set(await ledger.states()) == {State.ACCEPTED}

    await bench.until(all_accepted, "all accepted")
    for one in made:
        await one.stop()
    asked = [claim.effect_id for claim, _ in provider.asked]
    assert len(asked) == len(set(asked)) == 2 * PAGE_MAX + 5
    [sums] = await bench.rows("SELECT sum(accepted) AS accepted FROM receipt_batch", shard=ledger.shard.name)
    assert sums["accepted"] == len(asked)


async def test_what_was_found_out_changes_nothing_once_the_message_was_claimed_again(bench: Bench) -> None:
    """Two askers: the slow one's answer comes when the quick one's has long led to another try."""
    ledger = Ledger(bench)
    await ledger.unknown(1)
    inquiry = Inquiry(SOON, {Channel.SMS: Provider(NotFound()).ask}, attempts_max=8, metrics=Metrics())
    [unknown] = await ledger.effects.take_unknown(Channel.SMS, 10, ask_after_s=0.0, hold_s=0.0)
    slow = await inquiry.conclude(unknown)
    assert await ledger.effects.conclude([await inquiry.conclude(unknown)]) == {State.PENDING: 1}
    [again] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
    assert await ledger.effects.conclude([slow]) == {}
    await ledger.lose([again])
    assert await ledger.effects.conclude([slow]) == {}  # unknown once more, but of another try
    assert await ledger.states() == [State.UNKNOWN]
    assert (await ledger.outbox.record(Channel.SMS, [accepted(again)])).states == {State.ACCEPTED: 1}
