"""WooCommerce's orders, against the events that must come of them, written out by hand."""

import json

import pytest
from upstream_documents import adapted, sample, woo_order


def test_woocommerce_order() -> None:
    (event,) = adapted("woocommerce", sample("woocommerce/order_v3_1_processing.json"))
    assert event["id"] == "727/2017-03-22T19:28:08"
    assert event["source"] == "urn:woocommerce"
    assert event["time"] == "2017-03-22T19:28:08Z"
    assert event["data"] == {
        "order_id": "727",
        "number": "727",
        "currency": "USD",
        "total": "29.35",
        "processed_at": "2017-03-22T19:28:08Z",
        "customer": {
            "name": "John Doe",
            "email": "john.doe@example.com",
            "phone": "(555) 555-5555",
            "country": "US",
        },
        "lines": [
            {"sku": "product-93", "quantity": 2, "unit_price": "3", "title": "Woo Single #1"},
            {
                "sku": "Bar3",
                "quantity": 1,
                "unit_price": "12",
                "title": "Ship Your Idea – Color: Black, Size: M Test",
            },
        ],
    }


def test_woocommerce_webhook_and_member() -> None:
    headers = {
        "X-WC-Webhook-Topic": "order.updated",
        "X-WC-Webhook-Source": "https://shop.example.com/",
        "X-WC-Webhook-Delivery-ID": "36e520ebabc2fa725092ff4a47acedf2",
    }
    (event,) = adapted("woocommerce", woo_order(customer_id=26), headers)
    assert event["source"] == "urn:woocommerce:https://shop.example.com/"
    assert event["id"] == "order.updated/727/2017-03-22T19:28:08"
    assert event["data"]["customer"]["id"] == "26"


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("3.3333333333333335", "3.3333"),
        ("0.30000000000000004", "0.3"),
        ("11.99999999", "12"),
        ("2.50", "2.50"),
    ],
)
def test_unit_prices_that_woocommerce_divided_are_rounded_on_purpose(price: str, expected: str) -> None:
    raw = (
        json.dumps(woo_order())
        .replace('"price": 3,', f'"price": {price},')
        .replace('"price": 3}', f'"price": {price}}}')
    )
    assert adapted("woocommerce", raw.encode())[0]["data"]["lines"][0]["unit_price"] == expected
