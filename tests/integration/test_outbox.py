"""The effect ledger on a real shard: claims, leases, receipts, and the order/invoice rule under races."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest
from ledger import LIFETIME_S, Intake, accepted
from real_stack import PDF, Bench, invoice_event, order_event

from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.notifications.receipts import ReceiptBook
from pipeline.observability.metrics import Metrics
from pipeline.sharding.router import Router
from pipeline.storage.effects import Effects
from pipeline.storage.outbox import Channel, Claim, Kind, Receipt, State
from pipeline.storage.outbox_table import Outbox
from pipeline.storage.shard import Shard

pytestmark = pytest.mark.integration


def outbox_of(shard: Shard, lease_s: float = 60.0) -> Outbox:
    return Outbox(shard.name, shard.primary, lease_s=lease_s)


def effects_of(shard: Shard) -> Effects:
    return Effects(shard.name, shard.primary, message_lifetime_s=LIFETIME_S)


async def test_a_claim_is_on_the_replica_before_it_is_returned(bench: Bench) -> None:
    shard = await Intake(bench).write(order_event("o-1"))
    [claim] = await outbox_of(shard).claim(Channel.SMS, 10, uuid4())
    [row] = await bench.rows("SELECT state, claim_id FROM outbox WHERE channel = 'sms'", replica=True)
    assert row == {"state": "submitting", "claim_id": claim.claim_id}


async def test_two_claimers_never_get_the_same_message(bench: Bench) -> None:
    intake = Intake(bench)
    shards = {await intake.write(order_event(f"o-{number}")) for number in range(60)}
    claimed: list[Claim] = []
    for shard in shards:
        outbox = outbox_of(shard)
        for batch in await asyncio.gather(*(outbox.claim(Channel.SMS, 7, uuid4()) for _ in range(12))):
            claimed += batch
    assert len(claimed) == len({claim.effect_id for claim in claimed}) == 60


async def test_only_the_holder_of_the_claim_records_a_receipt(bench: Bench) -> None:
    shard = await Intake(bench).write(order_event("o-1"))
    outbox = outbox_of(shard)
    [claim] = await outbox.claim(Channel.SMS, 1, uuid4())
    forged = accepted(claim)._replace(claim_id=uuid4())
    assert await outbox.record(Channel.SMS, [forged]) == ({}, 1)
    assert await outbox.record(Channel.SMS, [accepted(claim)]) == ({State.ACCEPTED: 1}, 0)
    assert await outbox.record(Channel.SMS, [accepted(claim)]) == ({}, 0)  # as after a commit unanswered


async def test_a_lost_claim_becomes_unknown_and_a_late_answer_still_counts(bench: Bench) -> None:
    shard = await Intake(bench).write(order_event("o-1"))
    outbox = outbox_of(shard, lease_s=0.001)
    [claim] = await outbox.claim(Channel.SMS, 1, uuid4())
    assert await effects_of(shard).expire_leases() == 1
    assert await outbox.claim(Channel.SMS, 1, uuid4()) == []
    assert await outbox.record(Channel.SMS, [accepted(claim)]) == ({State.ACCEPTED: 1}, 0)
    [row] = await bench.rows("SELECT state FROM outbox WHERE channel = 'sms'")
    assert row["state"] == "accepted"


async def test_a_claim_given_back_untried_costs_no_attempt(bench: Bench) -> None:
    shard = await Intake(bench).write(order_event("o-1"))
    outbox = outbox_of(shard)
    [claim] = await outbox.claim(Channel.SMS, 1, uuid4())
    untried = Receipt(claim.slot, claim.effect_id, claim.claim_id, State.PENDING, is_untried=True)
    await outbox.record(Channel.SMS, [untried])
    [again] = await outbox.claim(Channel.SMS, 1, uuid4())
    assert again.attempt == claim.attempt == 1


async def test_only_a_message_that_was_tried_counts_as_retried(bench: Bench) -> None:
    async def retried_on(shard: Shard) -> int:
        [row] = await bench.rows("SELECT sum(retried) AS retried FROM receipt_batch", shard=shard.name)
        return row["retried"]

    shard = await Intake(bench).write(order_event("o-1"))
    outbox = outbox_of(shard)
    [claim] = await outbox.claim(Channel.SMS, 1, uuid4())
    pending = Receipt(claim.slot, claim.effect_id, claim.claim_id, State.PENDING, retry_in_s=0.0)
    assert await outbox.record(Channel.SMS, [pending._replace(is_untried=True)]) == ({}, 0)
    assert await retried_on(shard) == 0
    [again] = await outbox.claim(Channel.SMS, 1, uuid4())
    tried = pending._replace(claim_id=again.claim_id)
    assert await outbox.record(Channel.SMS, [tried]) == ({State.PENDING: 1}, 0)
    assert await retried_on(shard) == 1


async def test_metrics_count_the_receipts_that_were_recorded(bench: Bench) -> None:
    intake = Intake(bench)
    claims = []
    for number in range(3):
        shard = await intake.write(order_event(f"o-{number}"))
        claims += await outbox_of(shard).claim(Channel.SMS, 1, uuid4())
    good, lost, untried = (accepted(claim) for claim in claims)
    metrics, crashes = Metrics(), []
    tasks = Tasks(lambda _name, error: crashes.append(error))
    book = ReceiptBook(
        Channel.SMS, bench.cluster, gather_s=0.0, metrics=metrics, clock=SystemClock(), tasks=tasks
    )
    book.start()
    try:
        async with asyncio.timeout(5):
            durable: list[str] = []
            book.put(good, partial(durable.append, "good"))
            book.put(lost._replace(claim_id=uuid4()), partial(durable.append, "lost"))
            given_back = untried._replace(state=State.PENDING, accepted_at=None, is_untried=True)
            book.put(given_back, partial(durable.append, "untried"))
            await book.drain()
            assert sorted(durable) == ["good", "lost", "untried"]
    finally:
        await book.stop()
    counted = {
        (sample.name, sample.labels.get("state")): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.labels.get("channel") == "sms" and sample.name.endswith("receipts_total") and sample.value
    }
    assert counted == {
        ("postorder_receipts_total", "accepted"): 1,
        ("postorder_stale_receipts_total", None): 1,
    }
    assert crashes == []


async def test_a_mail_that_is_tried_again_still_carries_its_invoice(bench: Bench) -> None:
    shard = await Intake(bench).write(invoice_event("o-1"), order_event("o-1"))
    outbox = outbox_of(shard)
    [claim] = await outbox.claim(Channel.EMAIL, 1, uuid4())
    later = Receipt(claim.slot, claim.effect_id, claim.claim_id, State.PENDING, reason="451", retry_in_s=0.0)
    await outbox.record(Channel.EMAIL, [later])
    [again] = await outbox.claim(Channel.EMAIL, 1, uuid4())
    [invoice] = again.invoices
    assert (invoice.content, invoice.total) == (PDF, "74.4000")
    assert invoice.issued_at == datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
    assert again.attempt == 2


async def test_an_invoice_during_a_retry_of_the_order_mail_joins_it(bench: Bench) -> None:
    intake = Intake(bench)
    shard = await intake.write(order_event("o-1"))
    outbox = outbox_of(shard)
    [claim] = await outbox.claim(Channel.EMAIL, 1, uuid4())
    later = Receipt(claim.slot, claim.effect_id, claim.claim_id, State.PENDING, reason="451", retry_in_s=0.0)
    await outbox.record(Channel.EMAIL, [later])
    await intake.write(invoice_event("o-1"))
    [again] = await outbox.claim(Channel.EMAIL, 10, uuid4())
    assert again.kind is Kind.ORDER_EMAIL
    assert len(again.invoices) == 1


@pytest.mark.parametrize("turn", range(8))
async def test_invoice_and_claim_at_the_same_moment_mail_the_invoice_once(bench: Bench, turn: int) -> None:
    """Defends the row lock of bring_order_mails_forward: in every interleaving just one mail carries it."""
    intake = Intake(bench)
    names = [f"race-{turn}-{number}" for number in range(12)]
    shards = {name: await intake.write(order_event(name)) for name in names}

    async def claim_all() -> list[Claim]:
        found = []
        for shard in set(shards.values()):
            found += await outbox_of(shard).claim(Channel.EMAIL, 100, uuid4())
        return found

    first, *_ = await asyncio.gather(claim_all(), *(intake.write(invoice_event(name)) for name in names))
    carried = first + await claim_all()
    # Nothing is left to the sweep: that is for orders and invoices that are written at the same moment.
    assert [await effects_of(shard).owe_left_behind_invoices() for shard in set(shards.values())] in (
        [0],
        [0, 0],
    )
    mailed = [(claim.order_id, invoice.invoice_id) for claim in carried for invoice in claim.invoices]
    assert sorted(mailed) == sorted((name, f"inv-{name}") for name in names)


async def test_order_and_invoice_committed_at_once_are_found_by_the_sweep(bench: Bench) -> None:
    """An order and its invoice in concurrent transactions cannot see each other."""
    intake = Intake(bench)
    shard = await intake.write(order_event("o-1"))
    outbox = outbox_of(shard)
    [claim] = await outbox.claim(Channel.EMAIL, 1, uuid4())
    assert claim.invoices == ()
    # What the invoice's transaction leaves when it did not see the order: a row that waits.
    await intake.write(invoice_event("o-1"))
    await bench.execute("DELETE FROM outbox WHERE kind = 'invoice_email'")
    await bench.execute("UPDATE invoices SET effect_id = NULL")
    assert await effects_of(shard).owe_left_behind_invoices() == 1
    assert await effects_of(shard).owe_left_behind_invoices() == 0
    [mail] = await outbox.claim(Channel.EMAIL, 1, uuid4())
    assert mail.kind is Kind.INVOICE_EMAIL
    assert len(mail.invoices) == 1


async def test_the_databases_functions_agree_with_the_programs(bench: Bench) -> None:
    keys = ["o-1", "ord-2024-00001234", "Ω-order", "x" * 128]
    router = Router(bench.cluster.shard_map)
    for key in keys:
        place = router.place(key)
        [row] = (await bench.rows("SELECT slot_of($1) AS slot, effect_id_of($1, 2) AS mail", key))[:1]
        assert row["slot"] == place.slot
        assert row["mail"].hex == place.digest[:15].hex() + "02"


async def test_a_claim_says_until_when_it_may_be_called_and_is_of_use(bench: Bench) -> None:
    shard = await Intake(bench).write(order_event("o-1"))
    before = time.monotonic()
    [claim] = await outbox_of(shard, lease_s=40.0).claim(Channel.SMS, 1, uuid4())
    after = time.monotonic()
    assert before + 20 <= claim.send_before <= after + 20  # half the lease is for the call
    assert before + LIFETIME_S - 5 < claim.useful_until <= after + LIFETIME_S
    [row] = await bench.rows(
        "SELECT lease_until - claimed_at AS lease, claimed_at <= clock_timestamp() AS is_past FROM outbox "
        "WHERE channel = 'sms'"
    )
    assert row == {"lease": timedelta(seconds=40), "is_past": True}
