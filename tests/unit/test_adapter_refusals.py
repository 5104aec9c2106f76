"""What no adapter takes, and how it says so."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream_documents import (
    ADAPTERS,
    decoder,
    refused,
    saleor_order,
    shopify_order,
    square_event,
    stripe_event,
    woo_order,
)

from consumers.event_files import as_delivery
from pipeline.events import Reason


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
