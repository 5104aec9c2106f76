"""Mails of the whole flow on the real stack: their language, and invoices that came without a document."""

from base64 import b64encode

import pytest
from real_stack import Bench, attachments_of, invoice_event, order_event, text_of

pytestmark = pytest.mark.integration


async def test_a_customers_language_and_an_invoice_of_our_own(bench: Bench, run_pipeline) -> None:
    invoice = invoice_event("o-1")
    del invoice["data"]["document"]
    order = order_event("o-1")
    order["data"]["customer"] |= {"locale": "de-AT", "name": "Jürgen <b>"}
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(order)
        await bench.until_quiet(1)
        await bench.publish(invoice)
        status = await bench.until_quiet(2)
    assert status.accounting.balances
    order_mail, invoice_mail = await bench.mails()
    assert "Guten Tag Jürgen <b>," in text_of(order_mail)
    assert order_mail["parsed"]["subject"] == "Ihre Bestellung o-1"
    [attachment] = attachments_of(invoice_mail)
    assert (attachment["content_type"], attachment["filename"]) == ("application/pdf", "invoice-inv-o-1.pdf")
    assert 1000 < attachment["size"] < 10_000
    assert "Rechnung" in invoice_mail["parsed"]["subject"]


async def test_an_invoice_too_large_for_the_relay_keeps_no_order_mail_back(
    bench: Bench, run_pipeline
) -> None:
    """It is left out, and tried in a mail of its own; that one fails, and is listed as what it is."""
    greeting = {"on": "EHLO", "action": "reply", "code": 250, "text": ["sink", "SIZE 100000", "PIPELINING"]}
    await bench.smtp("behaviour", {"faults": [greeting]})
    small, large = (
        invoice_event("o-1", name, content_base64=b64encode(bytes(size)).decode(), filename=f"{name}.pdf")
        for name, size in (("small", 20_000), ("large", 200_000))
    )

    async def given_up() -> bool:
        return bool(await bench.rows("SELECT FROM outbox WHERE state = 'failed'"))

    with run_pipeline(notifications_grace_window_s="1", notifications_sweep_interval_s="0.2"):
        await bench.publish(order_event("o-1"), small, large)
        await bench.until(given_up, "the large invoice's own mail has failed")
        status = await bench.until_quiet(3)
    assert status.accounting.balances
    [mail] = await bench.mails()
    assert [one["filename"] for one in attachments_of(mail)] == ["small.pdf"]
    rows = await bench.rows(
        "SELECT kind, state, reason FROM outbox WHERE channel = 'email' ORDER BY created_at"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("order_email", "accepted", None),
        ("invoice_email", "failed", "document"),
    ]
