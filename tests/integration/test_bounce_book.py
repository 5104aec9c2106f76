"""Bounces of mails that were sent: they count when mail and recipient are ours; dead addresses go."""

from datetime import UTC, datetime
from email.utils import make_msgid
from uuid import UUID, uuid4

import pytest
from customers import store
from real_stack import Bench, customer_event, invoice_event, order_event

from pipeline.clock import SystemClock
from pipeline.notifications.rules.bounce_book import BounceBook
from pipeline.notifications.rules.recipients import Recipients
from pipeline.storage.outbox import Channel, Kind, Receipt, State
from pipeline.storage.standing import RecipientState, Said

pytestmark = pytest.mark.integration

REPORT = """Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}

--b
Content-Type: message/rfc822

Message-ID: {message_id}

--b--
"""
DUE = "UPDATE outbox SET due_at = now() WHERE state = 'pending'"


def report(effect_id: UUID, recipient: str, status: str = "5.1.1", action: str = "failed") -> bytes:
    message_id = f"<{effect_id.hex}@shop.example>"
    return REPORT.format(recipient=recipient, action=action, status=status, message_id=message_id).encode()


@pytest.fixture
def book(bench: Bench) -> BounceBook:
    recipients = Recipients(bench.cluster, clock=SystemClock())
    return BounceBook(bench.cluster, recipients, domains=["Shop.Example"], clock=SystemClock())


async def send(bench: Bench, kind: Kind) -> UUID:
    """Have a mail of a kind accepted by the relay, and return it."""
    await bench.execute(DUE)
    found = []
    for shard in bench.cluster:
        for claim in await shard.outbox.claim(Channel.EMAIL, 10, uuid4()):
            receipt = Receipt(
                *(claim.slot, claim.effect_id, claim.claim_id, State.ACCEPTED, "smtp"),
                provider_id=f"<{claim.effect_id.hex}@shop.example>",
                accepted_at=datetime.now(UTC),
            )
            await shard.outbox.record(Channel.EMAIL, [receipt])
            found += [claim.effect_id] if claim.kind is kind else []
    [effect_id] = found
    return effect_id


async def state_of(bench: Bench, effect_id: UUID) -> str:
    [row] = await bench.rows("SELECT state FROM outbox WHERE effect_id = $1", effect_id)
    return row["state"]


async def reasons(bench: Bench) -> list[str]:
    return [row["reason"] for row in await bench.rows("SELECT reason FROM recipient WHERE state = 'out'")]


async def test_a_hard_bounce_takes_the_address_off(bench: Bench, book: BounceBook) -> None:
    await store(bench, order_event("o-1"))
    mail = await send(bench, Kind.ORDER_EMAIL)
    bounce = report(mail, "O-1@Example.com")
    assert await book.take(bounce) == {"applied": 1, "taken_off": 1}
    assert await state_of(bench, mail) == "undelivered"
    shown = await Recipients(bench.cluster, clock=SystemClock()).show(Channel.EMAIL, "o-1@example.com")
    assert (shown.state, shown.reason) == ("out", "bounce:5.1.1")
    assert (await book.take(bounce))["taken_off"] == 0  # again
    assert await reasons(bench) == ["bounce:5.1.1"]
    operator = (Channel.EMAIL, "o-1@example.com", Said(RecipientState.IN, "operator"))
    assert await Recipients(bench.cluster, clock=SystemClock()).set(*operator)
    assert (await book.take(bounce))["taken_off"] == 0  # as an mbox file is read again at each start
    assert await reasons(bench) == []
    assert (await bench.status()).accounting.balances


async def test_a_bounce_of_a_mail_that_was_called_delivered_is_heard_once(
    bench: Bench, book: BounceBook
) -> None:
    """The ledger keeps its word of it, so the bounce is never news there; the address goes all the same."""
    await store(bench, order_event("o-1"))
    mail = await send(bench, Kind.ORDER_EMAIL)
    await book.take(report(mail, "o-1@example.com", "2.1.5", "delivered"))
    bounce = report(mail, "o-1@example.com")
    assert await book.take(bounce) == {"old": 1, "taken_off": 1}
    recipients = Recipients(bench.cluster, clock=SystemClock())
    await recipients.set(Channel.EMAIL, "o-1@example.com", Said(RecipientState.IN, "operator"))
    assert (await book.take(bounce))["taken_off"] == 0
    await bench.execute("DELETE FROM recipient_day")  # as retention does in three days
    assert (await book.take(bounce))["taken_off"] == 0
    assert await reasons(bench) == []


@pytest.mark.parametrize(
    ("status", "action", "state"),
    [
        *(("4.2.2", "delayed", "accepted"), ("4.4.7", "failed", "undelivered")),
        *(("5.7.1", "failed", "undelivered"), ("2.1.5", "delivered", "delivered")),
    ],
)
async def test_others_leave_the_address_alone(
    bench: Bench, book: BounceBook, status: str, action: str, state: str
) -> None:
    await store(bench, order_event("o-1"))
    mail = await send(bench, Kind.ORDER_EMAIL)
    await book.take(report(mail, "o-1@example.com", status, action))
    assert await state_of(bench, mail) == state
    assert await reasons(bench) == []


async def test_an_invoices_mail_is_found_wherever_it_is(bench: Bench, book: BounceBook) -> None:
    """Its id does not tell the slot, so all shards are asked."""
    for number in range(4):
        name = f"o-{number}"
        await store(bench, order_event(name))
        await send(bench, Kind.ORDER_EMAIL)
        await store(bench, invoice_event(name))
        mail = await send(bench, Kind.INVOICE_EMAIL)
        assert (await book.take(report(mail, f"{name}@example.com")))["applied"] == 1
        assert await state_of(bench, mail) == "undelivered"
    assert len(await reasons(bench)) == 4


async def test_the_customers_address_counts_where_the_order_has_none(bench: Bench, book: BounceBook) -> None:
    await store(bench, customer_event("c-7"))
    await store(bench, order_event("o-1", customer={"id": "c-7"}))
    mail = await send(bench, Kind.ORDER_EMAIL)
    assert await book.take(report(mail, "c-7@example.com")) == {"applied": 1, "taken_off": 1}


async def test_what_anybody_could_have_written_changes_nothing(bench: Bench, book: BounceBook) -> None:
    await store(bench, order_event("o-1"))
    mail = await send(bench, Kind.ORDER_EMAIL)
    before = await bench.rows("SELECT outbox::text FROM outbox ORDER BY effect_id")
    forged = {
        "somebody else's address": (report(mail, "victim@example.com"), "other_recipient"),
        "no mail of ours": (report(uuid4(), "o-1@example.com"), "no_such_mail"),
        "an order that there is not": (
            report(UUID(mail.hex[::-1][2:] + "02"), "o-1@example.com"),
            "no_such_mail",
        ),
        "an SMS": (report(UUID(mail.hex[:-2] + "01"), "o-1@example.com"), "no_such_mail"),
        "somebody else's Message-ID": (
            report(mail, "o-1@example.com").replace(b"shop.example", b"evil.example"),
            "no_bounce",
        ),
        "no bounce": (f"Message-ID: {make_msgid()}\n\nHello".encode(), "no_bounce"),
    }
    for raw, outcome in forged.values():
        assert await book.take(raw) == {outcome: 1}
    assert await bench.rows("SELECT outbox::text FROM outbox ORDER BY effect_id") == before
    assert await bench.rows("SELECT FROM recipient") == []
