"""Invoices that come after their order's mail has left: one mail for those of a window, and each once."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from customers import store
from real_stack import Bench, invoice_event, order_event

from pipeline.settings import Settings
from pipeline.storage.outbox import Channel, Claim, Kind, Receipt, State
from pipeline.storage.shard import Shard

pytestmark = pytest.mark.integration

DUE = "UPDATE outbox SET due_at = now() WHERE state = 'pending'"


async def claimed(bench: Bench) -> list[Claim]:
    """Claim every mail that is due."""
    found: list[Claim] = []
    for shard in bench.cluster:
        found += await shard.outbox.claim(Channel.EMAIL, 100, uuid4())
    return found


async def record(bench: Bench, claim: Claim, state: State = State.ACCEPTED) -> None:
    at = datetime.now(UTC) if state is State.ACCEPTED else None
    retry_in_s = 0.0 if state is State.PENDING else None
    await bench.cluster[claim.shard].outbox.record(
        Channel.EMAIL,
        [Receipt(claim.slot, claim.effect_id, claim.claim_id, state, "smtp", None, None, at, retry_in_s)],
    )


async def send_order_mail(bench: Bench, name: str = "o-1") -> Shard:
    """Have an order's mail gone, without an invoice."""
    await store(bench, order_event(name))
    await bench.execute(DUE)
    [claim] = await claimed(bench)
    assert claim.invoices == ()
    await record(bench, claim)
    return bench.cluster[claim.shard]


def numbers(claim: Claim) -> list[str]:
    return sorted(invoice.invoice_id for invoice in claim.invoices)


async def sweep(bench: Bench) -> int:
    return sum([await shard.effects.owe_left_behind_invoices() for shard in bench.cluster])


@pytest.mark.parametrize("way", ["one batch", "a batch each"])
async def test_late_invoices_of_an_order_share_a_mail(bench: Bench, settings: Settings, way: str) -> None:
    await send_order_mail(bench)
    invoices = [invoice_event("o-1", f"inv-{number}") for number in (3, 1, 2)]
    if way == "one batch":
        await store(bench, *invoices)
    else:
        for invoice in invoices:
            await store(bench, invoice)
    [row] = await bench.rows(
        "SELECT extract(epoch FROM due_at - created_at)::float AS waits_s FROM outbox "
        "WHERE kind = 'invoice_email'"
    )
    assert row["waits_s"] == settings.notifications.grace_window_s
    assert await claimed(bench) == []
    await bench.execute(DUE)
    [mail] = await claimed(bench)
    assert (mail.kind, numbers(mail)) == (Kind.INVOICE_EMAIL, ["inv-1", "inv-2", "inv-3"])
    await record(bench, mail)
    assert await sweep(bench) == 0
    status = await bench.status()
    assert status.accounting.balances
    found = await bench.rows("SELECT state FROM outbox WHERE channel = 'email'")
    assert [row["state"] for row in found] == ["accepted", "accepted"]


async def test_invoices_of_different_orders_do_not_meet(bench: Bench) -> None:
    for name in ("o-1", "o-2"):
        await send_order_mail(bench, name)
    await store(bench, *(invoice_event(name, f"inv-{n}") for name in ("o-1", "o-2") for n in (1, 2)))
    await bench.execute(DUE)
    mails = await claimed(bench)
    assert sorted((mail.order_id, *numbers(mail)) for mail in mails) == [
        ("o-1", "inv-1", "inv-2"),
        ("o-2", "inv-1", "inv-2"),
    ]


@pytest.mark.parametrize("state", ["claimed", "tried", "sent"])
async def test_a_mail_that_was_begun_is_not_joined(bench: Bench, state: str) -> None:
    await send_order_mail(bench)
    await store(bench, invoice_event("o-1", "inv-1"))
    await bench.execute(DUE)
    [first] = await claimed(bench)
    if state == "tried":
        await record(bench, first, State.PENDING)
    elif state == "sent":
        await record(bench, first)
    await store(bench, invoice_event("o-1", "inv-2"))
    await bench.execute(DUE)
    mails = [first] if state != "tried" else []
    mails += await claimed(bench)
    assert sorted(map(numbers, mails)) == [["inv-1"], ["inv-2"]]


@pytest.mark.parametrize("turn", range(6))
async def test_an_invoice_that_joins_while_the_mail_is_claimed_is_mailed_once(
    bench: Bench, turn: int
) -> None:
    """Defends FOR UPDATE in owe_invoice_mails: else a claim takes the mail and the invoice joins after it."""
    names = [f"join-{turn}-{number}" for number in range(10)]
    await store(bench, *map(order_event, names))
    await bench.execute(DUE)
    for claim in await claimed(bench):
        await record(bench, claim)
    await store(bench, *(invoice_event(name, "inv-1") for name in names))
    await bench.execute(DUE)
    mails, *_ = await asyncio.gather(
        claimed(bench), *(store(bench, invoice_event(name, "inv-2")) for name in names)
    )
    await bench.execute(DUE)
    mails += await claimed(bench)
    assert await sweep(bench) == 0
    carried = sorted((mail.order_id, one) for mail in mails for one in numbers(mail))
    assert carried == sorted((name, one) for name in names for one in ("inv-1", "inv-2"))


async def test_an_invoice_whose_document_cannot_be_had_does_not_hold_the_others_up(bench: Bench) -> None:
    shard = await send_order_mail(bench)
    await store(bench, invoice_event("o-1", "inv-1"), invoice_event("o-1", "inv-2"))
    await bench.execute(DUE)
    [mail] = await claimed(bench)
    await shard.outbox.leave_out(mail, "inv-1")  # the one after which the mail is named
    await record(bench, mail, State.PENDING)
    [again] = await claimed(bench)
    assert (again.effect_id, numbers(again)) == (mail.effect_id, ["inv-2"])
    await record(bench, again)
    assert await sweep(bench) == 1
    await store(bench, invoice_event("o-1", "inv-3"))
    await bench.execute(DUE)
    mails = await claimed(bench)
    assert sorted(map(numbers, mails)) == [["inv-1"], ["inv-3"]]
    for mail in mails:
        await record(bench, mail)
    assert (await bench.status()).accounting.balances


async def test_the_sweep_gathers_what_was_left_behind(bench: Bench) -> None:
    await send_order_mail(bench)
    await store(bench, *(invoice_event("o-1", f"inv-{number}") for number in range(3)))
    # What transactions at the same moment leave when they cannot see each other: rows that wait.
    await bench.execute("DELETE FROM outbox WHERE kind = 'invoice_email'")
    await bench.execute("UPDATE invoices SET effect_id = NULL")
    assert await sweep(bench) == 3
    [mail] = await claimed(bench)
    assert numbers(mail) == ["inv-0", "inv-1", "inv-2"]
    await bench.execute("UPDATE invoices SET effect_id = NULL WHERE invoice_id = 'inv-2'")
    assert await sweep(bench) == 1
    [mail] = await claimed(bench)
    assert numbers(mail) == ["inv-2"]
    assert await sweep(bench) == 0
