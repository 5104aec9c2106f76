"""What other systems send, against the events that must come of it, written out by hand."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.event_files import as_delivery
from pipeline.adapters.currencies import minor_unit_digits
from pipeline.adapters.mapping import Adapted, Adapter, builtin_adapters, load_adapter
from pipeline.errors import EventError, SettingsError
from pipeline.events import Reason
from pipeline.ingest.decoder import Decoder

SAMPLES = Path(__file__).parents[1] / "data" / "upstream"
decoder = Decoder(message_bytes_max=1_000_000)
ADAPTERS = {name: load_adapter(name) for name in builtin_adapters()}


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


def adapted(vendor: str, document: Any, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The events of a document, as the real decoder understands them."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    bodies = ADAPTERS[vendor].adapt(raw, headers or {})
    return [msgspec.to_builtins(decoder.decode(as_delivery(body)).event) for body in bodies]


def refused(vendor: str, document: Any, headers: dict[str, str] | None = None) -> EventError:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(EventError) as caught:
        ADAPTERS[vendor].adapt(raw, headers or {})
    return caught.value


def shopify_order(**changes: Any) -> dict[str, Any]:
    return {**sample("shopify/order_api_go-shopify.json")["order"], "cancelled_at": None, **changes}


def woo_order(**changes: Any) -> dict[str, Any]:
    return {**sample("woocommerce/order_v3_1_processing.json"), **changes}


def stripe_event(event_type: str = "invoice.finalized", **invoice: Any) -> dict[str, Any]:
    event = sample("stripe/invoice.finalized.json")
    event["type"] = event_type
    event["data"]["object"].update(invoice)
    return event


def square_event(event_type: str = "invoice.published", **invoice: Any) -> dict[str, Any]:
    event = sample("square/invoice.published.json")
    event["type"] = event_type
    event["data"]["object"]["invoice"].update(invoice)
    return event


def saleor_order(**changes: Any) -> dict[str, Any]:
    return {"order": {**sample("saleor/orderConfirmedPayload.json")["order"], **changes}}


# --- what comes of the samples --------------------------------------------------------------------


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


def test_saleor_order() -> None:
    (event,) = adapted("saleor", sample("saleor/orderConfirmedPayload.json"))
    assert event["id"] == "order/T3JkZXI6NTdiNTBhNDAtYzRmYi00YjQzLWIxODgtM2JhZmRlMTc3MGQ5"
    assert event["data"] == {
        "order_id": "T3JkZXI6NTdiNTBhNDAtYzRmYi00YjQzLWIxODgtM2JhZmRlMTc3MGQ5",
        "number": "1042",
        "currency": "USD",
        "total": "213",
        "processed_at": "2024-01-15T14:32:00Z",
        "customer": {
            "name": "Adrian King",
            "email": "adrian.king@example.com",
            "phone": "+1 212-555-0198",
            "locale": "en",
        },
        "lines": [
            {
                "sku": "OCT-NVY-L",
                "quantity": 2,
                "unit_price": "40",
                "title": "Organic Cotton T-Shirt (Navy / Large)",
            },
            {
                "sku": "MUG-ANNIVERSARY-GOLD",
                "quantity": 1,
                "unit_price": "25",
                "title": "Limited Edition Anniversary Collection Ceramic Mug with Gold Trim",
            },
            {
                "sku": "WEP-BLK-001",
                "quantity": 1,
                "unit_price": "96",
                "title": "Wireless Earbuds Pro (Matte Black)",
            },
        ],
    }


def test_saleor_invoice() -> None:
    headers = {"Saleor-Event": "invoice_sent", "Saleor-Domain": "shop.example.com"}
    (event,) = adapted("saleor", sample("saleor/invoiceSentPayload.json"), headers)
    assert event["id"] == "invoice/SW52b2ljZToxMDE="
    assert event["source"] == "urn:saleor:shop.example.com"
    assert event["data"] == {
        "invoice_id": "SW52b2ljZToxMDE=",
        "order_id": "T3JkZXI6NTdiNTBhNDAtYzRmYi00YjQzLWIxODgtM2JhZmRlMTc3MGQ5",
        "currency": "USD",
        "total": "213",
        "issued_at": "2024-01-15T14:32:00Z",
        "document": {"url": "https://example.com/media/invoices/invoice-2024-order-1042.pdf"},
    }


def test_the_same_document_makes_the_same_bytes() -> None:
    raw = (SAMPLES / "stripe/invoice.paid.json").read_bytes()
    assert ADAPTERS["stripe"].adapt(raw) == load_adapter("stripe").adapt(raw)


# --- what is refused, and how it says so ----------------------------------------------------------


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
    ("vendor", "document", "said"),
    [
        ("shopify", shopify_order(total_price="-10.00"), "data.total: `total_price` must not be negative"),
        ("shopify", shopify_order(total_price="10,00"), "`total_price` must be a decimal number"),
        ("shopify", shopify_order(total_price=10.0), "`total_price` must be a decimal number"),
        ("shopify", shopify_order(total_price="1e2"), "`total_price` must be a decimal number"),
        ("shopify", shopify_order(total_price="0.00001"), "14 digits and 4 decimals"),
        ("shopify", shopify_order(total_price="100000000000000"), "14 digits and 4 decimals"),
        (
            "shopify",
            shopify_order(total_price=None),
            "data.total: is needed, and nothing is at `total_price`",
        ),
        ("shopify", shopify_order(id=8.2e17), "data.order_id: `id` must be a text or a whole number"),
        ("shopify", shopify_order(id=True), "data.order_id: `id` must be a text or a whole number"),
        ("shopify", shopify_order(id="a b"), "printable ASCII characters without spaces"),
        ("shopify", shopify_order(currency="dollar"), "data.currency: `currency` must be three letters"),
        ("shopify", shopify_order(processed_at="2016-05-17T04:14:36"), "without an offset"),
        ("shopify", shopify_order(processed_at="yesterday"), "must be a time such as"),
        ("shopify", shopify_order(line_items=[{"quantity": 0, "id": 5, "price": "1"}]), "lines[0].quantity"),
        ("woocommerce", woo_order(status="pending"), "must be one of processing, completed, and is pending"),
        ("stripe", stripe_event(total=-1), "data.total: `data.object.total` must not be negative"),
        ("stripe", stripe_event(total=20.5), "must be a whole number of minor units"),
        ("stripe", stripe_event(total=True), "must be a whole number of minor units"),
        ("stripe", stripe_event(currency="zzz"), "name it in [minor_unit_digits]"),
        ("stripe", stripe_event(id=None), "data.invoice_id: is needed"),
        ("stripe", stripe_event(invoice_pdf=None), "nothing is at `data.object.invoice_pdf`"),
        ("stripe", stripe_event(invoice_pdf="https://x/" + "a" * 2000), "must be up to 2000 characters"),
        ("saleor", saleor_order(status="CANCELED"), "and is CANCELED"),
        ("saleor", saleor_order(lines=None), "lines: `order.lines` must be a list"),
        ("saleor", saleor_order(created=1705329120000), "is it milliseconds?"),
        ("saleor", saleor_order(userEmail="x\ud800"), "half a character"),
        ("saleor", saleor_order(userEmail="x\x00y"), "NUL"),
    ],
)
def test_what_cannot_be_mapped_exactly_is_refused(vendor: str, document: Any, said: str) -> None:
    assert said in refused(vendor, document).detail


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.MALFORMED_JSON),
        (b"\xff", Reason.MALFORMED_JSON),
        (b"{", Reason.MALFORMED_JSON),
        (b"[" * 100_000, Reason.MALFORMED_JSON),
        (b'{"order": NaN}', Reason.MALFORMED_JSON),
        (b'{"order": ' + b"9" * 5000 + b"}", Reason.MALFORMED_JSON),
        (b'{"order": 1e' + b"9" * 30 + b"}", Reason.MALFORMED_JSON),
        (b'{"order": 1, "order": 2}', Reason.DUPLICATE_KEY),
        (b"1", Reason.INVALID_DATA),
        (b"null", Reason.INVALID_DATA),
        (b'"order"', Reason.INVALID_DATA),
    ],
)
def test_no_json_object(raw: bytes, reason: Reason) -> None:
    assert {refused(vendor, raw).reason for vendor in ADAPTERS} == {reason}


@pytest.mark.parametrize("number", ["1e999999999", "-1e999999999", "1e-999999999", "0e999999999", "9" * 4000])
def test_a_number_is_never_written_out_in_millions_of_digits(number: str) -> None:
    for vendor, document, key in (
        ("saleor", saleor_order(), "order"),
        ("woocommerce", woo_order(), ""),
        ("stripe", stripe_event(), "data"),
    ):
        raw = json.dumps(document)
        raw = raw.replace('"amount": 213', f'"amount": {number}').replace('"price": 3', f'"price": {number}')
        raw = raw.replace('"total": 2000', f'"total": {number}')
        assert number in raw, key
        assert refused(vendor, raw.encode()).reason == Reason.INVALID_DATA


def test_problems_never_quote_values() -> None:
    secret = "Ann Secret 5551234"
    for vendor, document in (
        ("shopify", shopify_order(total_price=secret, id=secret)),
        ("woocommerce", woo_order(status=secret)),
        ("stripe", {"object": "event", "type": secret}),
        ("stripe", stripe_event(currency=secret)),
        ("saleor", saleor_order(created=secret)),
    ):
        error = refused(vendor, document)
        assert "Secret" not in str(error)
        assert "555" not in str(error)


# --- shapes ---------------------------------------------------------------------------------------


def outcomes(results: list[Adapted]) -> list[tuple[str, str, str]]:
    return [(r.at, r.event_type, r.problem.reason if r.problem else "") for r in results]


def each(vendor: str, raw: str) -> list[tuple[str, str, str]]:
    return outcomes(list(ADAPTERS[vendor].adapt_each(raw.encode())))


def test_a_bad_record_does_not_take_the_others_with_it() -> None:
    orders = [shopify_order(id=1), shopify_order(id=2, total_price="x"), 3, shopify_order(id=4)]
    assert each("shopify", json.dumps({"orders": orders})) == [
        ("orders[0]", "order.processed", ""),
        ("orders[1]", "order.processed", "invalid_data"),
        ("orders[2]", "", "invalid_data"),
        ("orders[3]", "order.processed", ""),
    ]
    error = refused("shopify", {"orders": orders})
    assert error.detail.startswith("orders[1]: order: data.total:")
    assert each("shopify", '{"orders": []}') == []


def test_lists_and_json_lines() -> None:
    one, paid = json.dumps(woo_order()), json.dumps(sample("stripe/invoice.paid.json"))
    assert each("woocommerce", f"\ufeff[{one}, {one}]") == [
        ("[0]", "order.processed", ""),
        ("[1]", "order.processed", ""),
    ]
    assert each("stripe", f"{paid}\n\nnot json\r\n{paid}\n") == [
        ("line 1", "order.processed", ""),
        ("line 1", "invoice.generated", ""),
        ("line 3", "", "malformed_json"),
        ("line 4", "order.processed", ""),
        ("line 4", "invoice.generated", ""),
    ]


def test_texts_are_trimmed_cut_and_dropped_when_empty() -> None:
    lines = [{"id": 9, "quantity": 1, "price": "1", "name": "n" * 300, "sku": " s "}]
    order = shopify_order(name="  ", line_items=lines, email=" ", contact_email=None, customer=None)
    data = adapted("shopify", order)[0]["data"]
    assert data["number"] == "1234"
    assert data["lines"] == [{"sku": "s", "quantity": 1, "unit_price": "1", "title": "n" * 200}]
    assert data["customer"] == {"name": "Bob Biller", "phone": "555-555-BILL", "country": "US"}


def test_no_contact_at_all() -> None:
    order = shopify_order(
        email=None, contact_email=None, customer=None, billing_address=None, shipping_address=None
    )
    assert adapted("shopify", order)[0]["data"]["customer"] == {}


@pytest.mark.parametrize(
    ("written", "expected"),
    [("EN", "en"), ("pt_br", "pt-BR"), ("zh-hant-TW", "zh-Hant-TW"), ("es-419", "es-419"), ("english", None)],
)
def test_locales(written: str, expected: str | None) -> None:
    data = adapted("saleor", saleor_order(languageCodeEnum=written, user=None, userEmail=None))[0]["data"]
    assert data["customer"].get("locale") == expected


# --- money and ids --------------------------------------------------------------------------------


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


def test_minor_units_by_iso_4217() -> None:
    digits = {
        code: minor_unit_digits(code) for code in ("JPY", "ISK", "EUR", "MGA", "BHD", "CLF", "XXX", "usd")
    }
    assert digits == {
        "JPY": 0, "ISK": 0, "EUR": 2, "MGA": 2, "BHD": 3, "CLF": 4, "XXX": None, "usd": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("19.99", "19.99"),
        ("1e2", "100"),
        ("1.5E1", "15"),
        ("0.1", "0.1"),
        ("213.000000", "213.0000"),
        ("-0.0", "0.0"),
        ("72057594037.93", "72057594037.93"),
    ],
)
def test_floats_in_major_units_are_exact(number: str, expected: str) -> None:
    raw = json.dumps(saleor_order()).replace('"amount": 213', f'"amount": {number}')
    assert adapted("saleor", raw.encode())[0]["data"]["total"] == expected


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


amounts = st.integers(0, 10**16 - 1).map(lambda cents: Decimal(cents).scaleb(-2))


@given(amounts)
def test_any_amount_is_exact_in_every_encoding(amount: Decimal) -> None:
    text = f"{amount:.2f}"
    by_text = adapted("shopify", shopify_order(total_price=text))[0]
    by_minor_units = adapted("stripe", stripe_event(total=int(amount * 100)))[0]
    raw = json.dumps(saleor_order()).replace('"amount": 213', f'"amount": {text}')
    by_float = adapted("saleor", raw.encode())[0]
    assert {e["data"]["total"] for e in (by_text, by_minor_units, by_float)} == {text}


@given(st.integers(0, 2**64 - 1))
def test_any_64_bit_id_is_exact(number: int) -> None:
    assert adapted("shopify", shopify_order(id=number))[0]["data"]["order_id"] == str(number)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
DOCUMENTS: dict[str, Callable[[], Any]] = {
    "shopify": shopify_order,
    "woocommerce": woo_order,
    "stripe": lambda: stripe_event("invoice.paid"),
    "square": lambda: square_event(public_url="https://squareup.com/x"),
    "saleor": saleor_order,
}


@given(st.data(), st.sampled_from(sorted(DOCUMENTS)), json_values)
def test_one_strange_value_makes_a_valid_event_or_an_event_error(data: Any, vendor: str, value: Any) -> None:
    document = DOCUMENTS[vendor]()
    inside = document
    while isinstance(inside, dict | list) and inside:
        keys = sorted(inside) if isinstance(inside, dict) else range(len(inside))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(inside[key], dict | list) or data.draw(st.booleans()):
            inside[key] = value
            break
        inside = inside[key]
    for result in ADAPTERS[vendor].adapt_each(json.dumps(document).encode()):
        if result.problem is None:
            assert decoder.decode(as_delivery(result.body)).event.data.order_id


# --- mapping files --------------------------------------------------------------------------------

MINE = """
about = "ours"
[[rules]]
name = "sale"
event = "order.processed"
id = { from = "no", as = "id" }
source = { default = "urn:ours", as = "id" }
[rules.data]
order_id = { from = "{kind}-{no}", as = "id" }
currency = { default = "eur", as = "currency" }
total = { from = "sum", as = "major_float" }
processed_at = { from = "at", as = "time", offset = "+02:00" }
[rules.customer]
email = { from = "contacts[kind=mail].value", as = "text" }
"""


def mine(tmp_path: Path, text: str) -> Adapter:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_adapter(str(path))


def test_a_mapping_of_ones_own(tmp_path: Path) -> None:
    contacts = [{"kind": "fax", "value": "1"}, {"kind": "mail", "value": "a@example.com"}]
    document = {"no": 7, "kind": "web", "sum": 19.99, "at": "2026-01-31T09:30:00", "contacts": contacts}
    adapter = mine(tmp_path, MINE)
    assert adapter.name == "mine"
    assert adapter.about == "ours"
    (body,) = adapter.adapt(json.dumps(document).encode())
    assert msgspec.to_builtins(decoder.decode(as_delivery(body)).event.data) == {
        "order_id": "web-7",
        "currency": "EUR",
        "total": "19.99",
        "processed_at": "2026-01-31T09:30:00+02:00",
        "customer": {"email": "a@example.com"},
        "lines": [],
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('about = "ours"', "about = ours", "not valid TOML"),
        ('about = "ours"', "", "file: Object missing required field `about`"),
        ('about = "ours"', 'about = "ours"\nspeed = 1', "file: Object contains unknown field `speed`"),
        ('"sale"', "7", "rules[0].name: Expected `str`, got `int`"),
        ("order.processed", "order.shipped", "rules[0].event: Invalid enum value"),
        ('total = { from = "sum", as = "major_float" }', "", "rules.sale.data.total: is missing"),
        (
            '"major_float"',
            '"text"',
            "rules.sale.data.total.as: must be one of money, minor_units, major_float",
        ),
        ('from = "sum",', "", "rules.sale.data.total: needs `from`, `default` or both"),
        ('from = "sum"', 'from = "sum..x"', "rules.sale.data.total.from: 'sum..x' is no path"),
        ('from = "sum"', 'from = "{sum"', "rules.sale.data.total.from: '{sum' has a brace"),
        ('from = "at"', 'from = "at[*]"', "rules.sale.data.processed_at.from: [*] is for amounts"),
        ('"+02:00"', '"CET"', "rules.sale.data.processed_at.offset:"),
        ('"eur"', '"euro"', "rules.sale.data.currency.default: must be three letters"),
        ("email =", "fax =", "rules.sale.customer.fax: no such key"),
        (
            'as = "major_float"',
            'as = "major_float", round_to = 2',
            "rules.sale.data.total.round_to: is for the unit",
        ),
        (
            'as = "text" }',
            'as = "text", paired_with = "phone" }',
            "rules.sale.customer.email.paired_with: must name",
        ),
        ("[rules.data]", 'when = [{ path = "x" }]\n[rules.data]', "rules.sale.when[0]: needs exactly one of"),
        ("[rules.customer]", "[rules.document]\n", "rules.sale.document: order.processed has no such table"),
        ("[rules.customer]", '[rules.lines]\neach = "x"\n', "rules.sale.lines.sku: is missing"),
    ],
)
def test_a_bad_mapping_is_told_by_file_and_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert MINE.count(old) == 1
    with pytest.raises(SettingsError) as caught:
        mine(tmp_path, MINE.replace(old, new))
    assert any(problem.startswith(f"{tmp_path / 'mine.toml'}: {said}") for problem in caught.value.problems)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        mine(tmp_path, MINE.replace('"sum"', '"."').replace("email", "fax").replace("eur", "euro"))
    assert len(caught.value.problems) == 3


def test_names_and_files(tmp_path: Path) -> None:
    assert builtin_adapters() == ["saleor", "shopify", "square", "stripe", "woocommerce"]
    assert repr(ADAPTERS["saleor"]) == "<Adapter saleor: order, invoice>"
    with pytest.raises(SettingsError, match="neither a mapping file"):
        load_adapter("magento")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_adapter(str(tmp_path / "none.toml"))


def test_the_example_of_the_how_to(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "publish-from-another-system.md"
    example = page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    sale = {"status": "Done", "no": 5, "changed": 2, "currency": "jpy", "sum_cents": 500}
    sale |= {"opened": "2026-01-01T10:00:00", "items": [{"id": 1, "count": "2", "price_cents": 250}]}
    (body,) = mine(tmp_path, example).adapt(json.dumps(sale).encode())
    data = msgspec.to_builtins(decoder.decode(as_delivery(body)).event.data)
    assert data["total"] == "500"
    assert data["processed_at"] == "2026-01-01T10:00:00+01:00"
    assert data["lines"] == [{"sku": "item-1", "quantity": 2, "unit_price": "250"}]
