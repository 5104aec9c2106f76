"""Stripe's invoices, against the events that must come of them, written out by hand."""

from typing import Any

import pytest
from upstream_documents import adapted, refused, sample, stripe_event

from pipeline.events import Reason


def test_stripe_finalized_invoice() -> None:
    document = sample("stripe/invoice.finalized.json")
    (event,) = adapted("stripe", document)
    assert event["type"] == "invoice.generated"
    assert event["id"] == "evt_000000000000000000000000"
    assert event["source"] == "urn:stripe"
    assert event["time"] == "2022-03-26T18:40:15Z"
    assert event["data"] == {
        "invoice_id": "in_000000000000000000000000",
        "order_id": "in_000000000000000000000000",
        "number": "EE1DF78D-0001",
        "currency": "USD",
        "total": "20.00",
        "issued_at": "2022-03-26T18:40:13Z",
        "document": {"url": document["data"]["object"]["invoice_pdf"]},
    }


def test_stripe_paid_invoice_without_an_order_is_its_own_order() -> None:
    order, invoice = adapted("stripe", sample("stripe/invoice.paid.json"))
    assert order["id"] == "evt_000000000000000000000000/order"
    assert order["data"] == {
        "order_id": "in_000000000000000000000000",
        "number": "EE1DF78D-0001",
        "currency": "USD",
        "total": "20.00",
        "processed_at": "2022-03-26T18:40:13Z",
        "customer": {"id": "cus_00000000000000"},
        "lines": [
            {
                "sku": "price_000000000000000000000000",
                "quantity": 1,
                "unit_price": "20.00",
                "title": "(created by Stripe CLI)",
            }
        ],
    }
    assert invoice["id"] == "evt_000000000000000000000000"
    assert invoice["data"]["order_id"] == order["data"]["order_id"]


@pytest.mark.parametrize(
    "where",
    [
        {"metadata": {"order_id": "o-7"}},
        {"parent": {"subscription_details": {"metadata": {"order_id": "o-7"}}}},
        {"subscription_details": {"metadata": {"order_id": "o-7"}}},
    ],
)
def test_stripe_invoice_names_its_order_in_metadata(where: dict[str, Any]) -> None:
    (event,) = adapted("stripe", stripe_event("invoice.paid", **where))
    assert event["type"] == "invoice.generated"
    assert event["data"]["order_id"] == "o-7"


def test_stripe_contacts_where_there_are_some() -> None:
    event = stripe_event(
        "invoice.paid",
        customer_email="a@example.com",
        customer_name=" Ann ",
        customer_phone="+1 212 555 0100",
        customer_address={"country": "us"},
        customer={"id": "cus_1", "object": "customer"},
    )
    assert adapted("stripe", event)[0]["data"]["customer"] == {
        "id": "cus_1",
        "name": "Ann",
        "email": "a@example.com",
        "phone": "+1 212 555 0100",
        "country": "US",
    }


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (stripe_event("invoice.upcoming", id=None), "has no id yet"),
        (stripe_event()["data"]["object"], "bare invoice"),
        ({"object": {"id": "in_1"}, "previous_attributes": {"paid": True}}, "inside of an event"),
        (
            {"object": "event", "id": "evt_1", "type": "plan.created", "data": {}},
            "invoice.paid, invoice.payment_succeeded, invoice.sent, and is plan.created",
        ),
        ({"id": "ch_1", "object": "charge"}, "`object` must be event, and is charge"),
        ({}, "`object` must be event, and is absent"),
    ],
)
def test_stripe_says_what_it_found_and_what_it_takes(document: Any, said: str) -> None:
    error = refused("stripe", document)
    assert error.reason == Reason.UNKNOWN_TYPE
    assert said in error.detail


@pytest.mark.parametrize(
    ("currency", "minor", "expected"),
    [
        ("usd", 0, "0.00"),
        ("usd", 5, "0.05"),
        ("jpy", 2000, "2000"),
        ("krw", 1, "1"),
        ("bhd", 1230, "1.230"),
        ("isk", 500, "5.00"),  # by ISO 4217 it has no minor unit; Stripe counts in hundredths all the same
        ("ugx", 500, "5.00"),
        ("mga", 5, "5"),
        ("eur", 9_999_999_999_999_999, "99999999999999.99"),
    ],
)
def test_minor_units_of_stripe(currency: str, minor: int, expected: str) -> None:
    assert adapted("stripe", stripe_event(currency=currency, total=minor))[0]["data"]["total"] == expected
