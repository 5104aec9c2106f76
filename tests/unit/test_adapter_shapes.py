"""One document or many, texts long and empty: what every adapter does alike."""

import json

import pytest
from upstream_documents import (
    ADAPTERS,
    SAMPLES,
    adapted,
    refused,
    saleor_order,
    sample,
    shopify_order,
    woo_order,
)

from pipeline.adapters.mapping import Adapted, load_adapter


def test_the_same_document_makes_the_same_bytes() -> None:
    raw = (SAMPLES / "stripe/invoice.paid.json").read_bytes()
    assert ADAPTERS["stripe"].adapt(raw) == load_adapter("stripe").adapt(raw)


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
