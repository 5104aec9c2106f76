"""Shopify's orders, against the events that must come of them, written out by hand."""

from upstream_documents import adapted, refused, sample, shopify_order

from pipeline.events import Reason


def test_shopify_order() -> None:
    (event,) = adapted("shopify", {"order": shopify_order()})
    assert event == {
        "type": "order.processed",
        "specversion": "1.0",
        "id": "123456/2016-05-17T04:14:36-04:00",
        "source": "urn:shopify",
        "time": "2016-05-17T04:14:36-04:00",
        "datacontenttype": "application/json",
        "dataschema": "urn:postorder:order.processed:1",
        "data": {
            "order_id": "123456",
            "number": "#9999",
            "currency": "USD",
            "total": "10.00",
            "processed_at": "2016-05-17T04:14:36Z",
            "customer": {
                "name": "John Smith",
                "email": "jon@doe.ca",
                "phone": "555-555-BILL",
                "country": "US",
            },
            "lines": [
                {"sku": "product-111475476", "quantity": 1, "unit_price": "0.00", "title": "Soda"},
                {
                    "sku": "product-5410685889",
                    "quantity": 1,
                    "unit_price": "5.00",
                    "title": "Another Beer For Good Times",
                },
            ],
        },
    }


def test_shopify_webhook_has_its_id_shop_and_time_in_headers() -> None:
    headers = {
        "X-SHOPIFY-WEBHOOK-ID": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
        "x-shopify-shop-domain": "shop.example.com",
        "X-Shopify-Topic": "orders/paid",
        "X-Shopify-Triggered-At": "2016-05-17T08:15:00.123456Z",
    }
    (event,) = adapted("shopify", shopify_order(id=820982911946154508), headers)
    assert event["id"] == "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
    assert event["source"] == "urn:shopify:shop.example.com"
    assert event["time"] == "2016-05-17T08:15:00.123456Z"
    assert event["data"]["order_id"] == "820982911946154508"
    del headers["X-SHOPIFY-WEBHOOK-ID"]
    (event,) = adapted("shopify", shopify_order(), headers)
    assert event["id"] == "orders/paid/123456/2016-05-17T04:14:36-04:00"


def test_shopify_cancelled_order_is_none_to_tell_of() -> None:
    error = refused("shopify", sample("shopify/order_api_go-shopify.json"))
    assert error.reason == Reason.UNKNOWN_TYPE
    assert "`cancelled_at` must be absent" in error.detail


def test_shopify_reads_a_phone_number_by_the_country_of_its_own_address() -> None:
    shipping = {"phone": "020 7946 0000", "country_code": "GB"}
    order = shopify_order(shipping_address=shipping)
    order["billing_address"]["phone"] = None
    (event,) = adapted("shopify", order)
    assert event["data"]["customer"]["phone"] == "020 7946 0000"
    assert event["data"]["customer"]["country"] == "GB"
    shipping["country_code"] = ""
    (event,) = adapted("shopify", order)
    assert "country" not in event["data"]["customer"]
