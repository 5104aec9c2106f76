"""What providers say of messages, receipts that come late, and the notes of both, on a real shard."""

from datetime import UTC, datetime
from itertools import permutations
from uuid import uuid4

import pytest
from ledger import Ledger, accepted
from real_stack import Bench

from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.effects import WORDS, ProviderStatus
from pipeline.storage.outbox import Channel, Claim, Receipt, State

pytestmark = pytest.mark.integration

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def says(claim: Claim, word: str, provider_id: str = "SM1", code: str | None = None) -> ProviderStatus:
    return ProviderStatus(claim.slot, claim.effect_id, "twilio", provider_id, word, code, AT)


def receipt(
    claim: Claim, state: State, reason: str | None = None, retry_in_s: float | None = None
) -> Receipt:
    return Receipt(claim.slot, claim.effect_id, claim.claim_id, state, reason=reason, retry_in_s=retry_in_s)


async def accepted_sum(ledger: Ledger) -> int:
    sql = "SELECT coalesce(sum(accepted), 0)::int AS accepted FROM receipt_batch"
    [row] = await ledger.bench.rows(sql, shard=ledger.shard.name)
    return row["accepted"]


# --- status words ----------------------------------------------------------------------------------------


async def test_words_in_any_order_and_twice_come_to_the_same(bench: Bench) -> None:
    ledger = Ledger(bench)
    orders = list(permutations(["queued", "sent", "delivered"]))
    claims = await ledger.claimed(len(orders))
    await ledger.outbox.record(Channel.SMS, [accepted(claim, "SM1") for claim in claims])
    for turn in (*range(3), *range(3)):
        words = [says(claim, order[turn]) for claim, order in zip(claims, orders, strict=True)]
        await ledger.effects.apply_statuses(words)
    assert {(row["state"], row["provider_status"]) for row in await ledger.rows()} == {
        ("delivered", "delivered")
    }
    assert await accepted_sum(ledger) == len(orders)


async def test_a_set_holds_several_words_of_one_message(bench: Bench) -> None:
    ledger = Ledger(bench)
    one, other = await ledger.claimed(2)
    words = [says(one, "delivered"), says(other, "sent", "SM2"), says(one, "sent"), says(one, "gibberish")]
    applied = await ledger.effects.apply_statuses(words)
    assert applied.outcomes == {"applied": 2, "old": 1, "not_understood": 1}
    assert {row["effect_id"]: row["state"] for row in await ledger.rows()} == {
        one.effect_id: "delivered",
        other.effect_id: "accepted",
    }


async def put_into(ledger: Ledger, state: str, claims: list[Claim]) -> None:
    if state in ("unknown", "abandoned"):
        await ledger.lose(claims)
    if state in ("pending", "abandoned"):
        ids = [claim.effect_id for claim in claims]
        await ledger.bench.execute(f"UPDATE outbox SET state = '{state}' WHERE effect_id = ANY($1)", ids)


@pytest.mark.parametrize("before", ["pending", "submitting", "unknown", "abandoned"])
async def test_a_word_proves_that_a_message_was_accepted(bench: Bench, before: str) -> None:
    ledger = Ledger(bench)
    claims = await ledger.claimed(len(WORDS))
    await put_into(ledger, before, claims)
    words = [says(claim, word, code="30003") for claim, word in zip(claims, WORDS, strict=True)]
    assert (await ledger.effects.apply_statuses(words)).outcomes == {"applied": len(WORDS)}
    rows = {row["effect_id"]: row for row in await ledger.rows()}
    for claim, (word, (_, state)) in zip(claims, WORDS.items(), strict=True):
        row = rows[claim.effect_id]
        assert (row["state"], row["provider"], row["provider_id"]) == (state, "twilio", "SM1")
        assert (row["provider_status"], row["provider_status_at"]) == (word, AT)
        assert row["claim_id"] == claim.claim_id
        assert row["reason"] == ("30003" if state is State.UNDELIVERED else None)
        assert (row["settled_at"] is None) == (state is State.ACCEPTED)
    assert await accepted_sum(ledger) == len(WORDS)
    noted = sum(note["what"] == "resolved" for note in await ledger.notes())
    assert noted == (0 if before == "submitting" else len(WORDS))

    late = [accepted(claim, "SM1") for claim in claims]
    assert await ledger.outbox.record(Channel.SMS, late) == ({}, 0)  # no news, and not stale
    assert {row["effect_id"]: row for row in await ledger.rows()} == rows
    assert await accepted_sum(ledger) == len(WORDS)


async def test_a_last_word_is_the_last_word(bench: Bench) -> None:
    ledger = Ledger(bench)
    finals = ["delivered", "undelivered", "failed", "canceled"]
    claims = await ledger.claimed(len(finals))
    said = list(zip(claims, finals, strict=True))
    await ledger.effects.apply_statuses([says(claim, final) for claim, final in said])
    before = await ledger.rows()
    earlier = [word for word in WORDS if word != "read"]
    words = [says(claim, word) for claim in claims for word in earlier]
    assert (await ledger.effects.apply_statuses(words)).outcomes == {"old": len(words)}
    assert await ledger.rows() == before
    read = [says(claim, "read") for claim in claims]
    assert (await ledger.effects.apply_statuses(read)).outcomes == {"applied": 1, "old": 3}
    assert await ledger.states() == [row["state"] for row in before]


async def test_a_word_about_another_id_is_noted_once_and_changes_nothing(bench: Bench) -> None:
    ledger = Ledger(bench)
    [claim] = await ledger.claimed(1)
    await ledger.outbox.record(Channel.SMS, [accepted(claim, "SM1")])
    before = await ledger.rows()
    for _ in range(2):
        applied = await ledger.effects.apply_statuses([says(claim, "delivered", "SM2")])
        assert applied.outcomes == {"other_id": 1}
    assert await ledger.rows() == before
    [note] = await ledger.notes()
    assert (note["what"], note["detail"]) == ("status", "other_id delivered SM2")


async def test_a_word_about_a_message_that_was_refused_is_noted(bench: Bench) -> None:
    ledger = Ledger(bench)
    claims = await ledger.claimed(3)
    states = [State.SUPPRESSED, State.EXPIRED, State.FAILED]
    receipts = [receipt(claim, state, "21610") for claim, state in zip(claims, states, strict=True)]
    await ledger.outbox.record(Channel.SMS, receipts)
    applied = await ledger.effects.apply_statuses([says(claim, "sent") for claim in claims])
    assert applied.outcomes == {"contradiction": 3}
    assert sorted(await ledger.states()) == sorted(states)
    assert {note["detail"] for note in await ledger.notes()} == {"contradiction sent SM1"}


async def test_words_for_slots_that_are_elsewhere_are_given_back_and_the_others_applied(bench: Bench) -> None:
    ledger = Ledger(bench)
    [claim] = await ledger.claimed(1)
    owned = set(bench.cluster.shard_map.slots_of("shard0"))
    strange = next(slot for slot in range(SLOT_COUNT) if slot not in owned)
    elsewhere = says(claim, "sent")._replace(slot=strange, effect_id=uuid4())
    nobodys = says(claim, "sent")._replace(effect_id=uuid4())
    applied = await ledger.effects.apply_statuses([elsewhere, says(claim, "sent"), nobodys])
    assert applied[:2] == ({"applied": 1, "no_such_message": 1}, {strange})
    assert await ledger.states() == ["accepted"]


# --- receipts that come late -----------------------------------------------------------------------------


async def test_a_lost_holders_acceptance_counts_also_when_the_message_waits_again(bench: Bench) -> None:
    """Or it would go out twice: whoever was asked had not heard of it yet."""
    ledger = Ledger(bench)
    [lost] = await ledger.unknown(1)
    await bench.execute("UPDATE outbox SET state = 'pending', due_at = now()")
    assert await ledger.outbox.record(Channel.SMS, [accepted(lost, "SM1")]) == ({State.ACCEPTED: 1}, 0)
    assert await ledger.outbox.claim(Channel.SMS, 1, uuid4()) == []


async def test_an_acceptance_counts_also_when_somebody_else_has_tried_in_vain_since(bench: Bench) -> None:
    ledger = Ledger(bench)
    [lost] = await ledger.unknown(1)
    await bench.execute("UPDATE outbox SET state = 'pending', due_at = now()")
    [again] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
    await ledger.outbox.record(Channel.SMS, [receipt(again, State.PENDING, "429", 0.0)])
    assert await ledger.outbox.record(Channel.SMS, [accepted(lost, "SM1")]) == ({State.ACCEPTED: 1}, 0)
    assert await ledger.states() == [State.ACCEPTED]
    assert await accepted_sum(ledger) == 1
    assert (await ledger.notes())[-1]["detail"] == "accepted SM1"


async def test_an_acceptance_that_may_be_one_of_two_is_noted(bench: Bench) -> None:
    ledger = Ledger(bench)
    [lost] = await ledger.unknown(1)
    await bench.execute("UPDATE outbox SET state = 'pending', due_at = now()")
    [again] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
    assert await ledger.outbox.record(Channel.SMS, [accepted(lost, "SM1")]) == ({}, 1)
    assert await ledger.states() == [State.SUBMITTING]
    assert await ledger.outbox.record(Channel.SMS, [accepted(again, "SM2")]) == ({State.ACCEPTED: 1}, 0)
    [note] = [note for note in await ledger.notes() if note["what"] == "stale_receipt"]
    assert note["detail"] == "accepted SM1"


async def test_who_did_not_send_gives_back_only_what_nobody_else_has(bench: Bench) -> None:
    ledger = Ledger(bench)
    [slept] = await ledger.unknown(1)
    untried = receipt(slept, State.PENDING, "lease_ended")._replace(is_untried=True)
    assert await ledger.outbox.record(Channel.SMS, [untried]) == ({}, 0)
    assert await ledger.states() == [State.PENDING]  # of what it had it knows that it was not sent
    [again] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
    assert again.attempt == slept.attempt
    assert await ledger.outbox.record(Channel.SMS, [untried]) == ({}, 1)
    assert await ledger.states() == [State.SUBMITTING]


# --- notes -----------------------------------------------------------------------------------------------


async def test_nothing_is_noted_on_the_ordinary_way(bench: Bench) -> None:
    ledger = Ledger(bench)
    claims = await ledger.claimed(5)
    states = (State.ACCEPTED, State.SUPPRESSED, State.EXPIRED, State.FAILED)
    receipts = [receipt(claim, state, "x") for claim, state in zip(claims, states, strict=False)]
    await ledger.outbox.record(Channel.SMS, receipts)
    given_back = receipt(claims[4], State.PENDING)._replace(is_untried=True)
    await ledger.outbox.record(Channel.SMS, [given_back])
    assert await ledger.notes() == []
    settled = {row["state"]: row["settled_at"] is not None for row in await ledger.rows()}
    assert settled == {
        "accepted": False,
        "suppressed": True,
        "expired": True,
        "failed": True,
        "pending": False,
    }


async def test_tries_put_off_are_noted_the_first_ones_and_then_ever_fewer(bench: Bench) -> None:
    ledger = Ledger(bench)
    await ledger.owe(1)
    for _ in range(20):
        [claim] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
        await ledger.outbox.record(Channel.SMS, [receipt(claim, State.PENDING, "429", 0.0)])
    notes = await ledger.notes()
    assert len(notes) == 4 + 2  # tries 1 to 4, 8 and 16
    assert {(note["what"], note["detail"], note["actor"]) for note in notes} == {("retry", "429", "receipts")}


async def test_what_was_held_back_untried_is_noted_once_for_each_reason(bench: Bench) -> None:
    ledger = Ledger(bench)
    await ledger.owe(1)
    for turn in range(6):
        [claim] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
        reason = "quiet_hours" if turn % 2 else "rate_limited"
        held_back = receipt(claim, State.PENDING, reason, 0.0)._replace(is_untried=True)
        await ledger.outbox.record(Channel.SMS, [held_back])
    assert [note["detail"] for note in await ledger.notes()] == ["rate_limited", "quiet_hours"]


async def test_an_unknown_outcome_is_noted(bench: Bench) -> None:
    ledger = Ledger(bench)
    [claim] = await ledger.claimed(1)
    await ledger.outbox.record(Channel.SMS, [receipt(claim, State.UNKNOWN, "timeout")])
    assert [(note["what"], note["detail"]) for note in await ledger.notes()] == [("unknown", "timeout")]
