"""Square's orders and invoices, against the events that must come of them, written out by hand."""

from typing import Any

from upstream_documents import adapted, refused, sample, square_event

from pipeline.events import Reason


def test_square_invoice_is_taken_once_it_has_its_page() -> None:
    error = refused("square", sample("square/invoice.published.json"))
    assert error.reason == Reason.INVALID_DATA
    assert "nothing is at `data.object.invoice.public_url`" in error.detail
    page = "https://squareup.com/pay-invoice/invtmp:5e22"
    (event,) = adapted("square", square_event(public_url=page))
    assert event["id"] == "52246644-98ba-411a-874c-ba35ccdb831c"
    assert event["source"] == "urn:square:031FEV2Q6VMPK"
    assert event["data"] == {
        "invoice_id": "inv:0-ChCHu2mZEabLeeHahQnXDjZQECY",
        "order_id": "CAISENgvlJ6jLWAzERDzjyHVybY",
        "number": "inv-100",
        "currency": "USD",
        "total": "100.00",
        "issued_at": "2020-06-18T18:23:11Z",
        "document": {"url": page, "media_type": "text/html"},
    }


def test_square_payment_requests_are_added_up() -> None:
    def request(amount: Any) -> dict[str, Any]:
        return {"computed_amount_money": {"amount": amount, "currency": "USD"}}

    requests = [request(2599), request(7400), request(1)]
    event = square_event(public_url="https://squareup.com/x", payment_requests=requests)
    assert adapted("square", event)[0]["data"]["total"] == "100.00"
    requests[1] = {"request_type": "BALANCE"}
    event = square_event(public_url="https://squareup.com/x", payment_requests=requests)
    assert "is missing in a part of the list" in refused("square", event).detail


def test_square_paid_invoice_brings_the_order_with_its_customer() -> None:
    (event,) = adapted("square", square_event("invoice.payment_made", status="PAID"))
    assert event["type"] == "order.processed"
    assert event["data"]["order_id"] == "CAISENgvlJ6jLWAzERDzjyHVybY"
    assert event["data"]["total"] == "100.00"
    assert event["data"]["lines"] == []
    assert event["data"]["customer"] == {
        "id": "JDKYHBWT1D4F8MFH63DBMEN8Y4",
        "name": "Amelia Earhart",
        "email": "Amelia.Earhart@example.com",
        "phone": "1-212-555-4240",
    }
    error = refused("square", square_event("invoice.payment_made", status="PARTIALLY_PAID"))
    assert "must be PAID, and is PARTIALLY_PAID" in error.detail


def test_square_order_event_holds_too_little() -> None:
    error = refused("square", sample("square/order.created.json"))
    assert error.reason == Reason.UNKNOWN_TYPE
    assert "no amount, no line and no customer" in error.detail


def test_square_order_document() -> None:
    order = {
        "id": "CAISENgvlJ6jLWAzERDzjyHVybY",
        "location_id": "057P5VYJ4A5X1",
        "state": "OPEN",
        "version": 3,
        "created_at": "2020-05-18T16:30:49.614Z",
        "updated_at": "2020-05-18T16:31:00.000Z",
        "total_money": {"amount": 550, "currency": "USD"},
        "line_items": [
            {
                "uid": "ULkg0tQTRK2bkU9fNv3IJD",
                "name": "Item 1",
                "quantity": "1",
                "base_price_money": {"amount": 500, "currency": "USD"},
            }
        ],
    }
    (event,) = adapted("square", {"order": order})
    assert event["id"] == "order/CAISENgvlJ6jLWAzERDzjyHVybY/3"
    assert event["data"]["total"] == "5.50"
    assert event["data"]["customer"] == {}
    assert event["data"]["lines"] == [
        {"sku": "line-ULkg0tQTRK2bkU9fNv3IJD", "quantity": 1, "unit_price": "5.00", "title": "Item 1"}
    ]
    order["line_items"][0]["quantity"] = "1.5"
    assert (
        "lines[0].quantity: `quantity` must be a whole number" in refused("square", {"order": order}).detail
    )
