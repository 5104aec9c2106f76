"""Amounts and ids come through exactly, however they were written."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream_documents import adapted, saleor_order, shopify_order, stripe_event

from pipeline.adapters.currencies import minor_unit_digits


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
