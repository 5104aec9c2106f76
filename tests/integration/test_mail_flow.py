"""Mails of the whole flow on the real stack: their language, and invoices that came without a document."""

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
