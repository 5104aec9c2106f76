"""What is a valid event and what is not, by reason."""

import json
from typing import Any

import pytest
from deliveries import delivery
from real_stack import invoice_event, order_event

from pipeline.errors import EventError
from pipeline.events import InvoiceEvent, OrderEvent, Reason
from pipeline.ingest.decoder import Decoder

LIMIT = 20_000
decoder = Decoder(message_bytes_max=LIMIT)


def order(*path: str, value: Any = None, drop: bool = False) -> bytes:
    """An order event with one place changed or dropped."""
    event = order_event("o-1")
    target = event
    for step in path[:-1]:
        target = target[step]
    if drop:
        del target[path[-1]]
    elif path:
        target[path[-1]] = value
    return json.dumps(event).encode()


def invoice(**document: Any) -> bytes:
    return json.dumps(invoice_event("o-1", **document)).encode()


GOOD = {
    "plain": order(),
    "no data schema": order("dataschema", value="urn:postorder:order.processed:1"),
    "unknown attribute": order("traceparent", value="00-abc"),
    "unknown data field": order("data", "gift", value={"wrap": True}),
    "no contact at all": order("data", "customer", value={}),
    "no lines": order("data", "lines", value=[]),
    "leap day": order("data", "processed_at", value="2028-02-29T00:00:00Z"),
    "offset +14": order("data", "processed_at", value="2026-01-01T00:00:00+14:00"),
    "huge amount": order("data", "total", value="99999999999999.9999"),
    "zero": order("data", "total", value="0"),
    "emoji name": order("data", "customer", value={"name": "👩‍👩‍👧 Ω"}),
    "a backslash and u0000 spelt out": order("data", "customer", value={"name": "\\u0000"}),
    "white space around": b" \n" + order() + b"\n ",
}
BAD = {
    "empty": (b"", Reason.MALFORMED_JSON),
    "white space": (b"  \n", Reason.MALFORMED_JSON),
    "null": (b"null", Reason.INVALID_ENVELOPE),
    "number": (b"1", Reason.INVALID_ENVELOPE),
    "array": (b"[]", Reason.INVALID_ENVELOPE),
    "truncated": (order()[:-2], Reason.MALFORMED_JSON),
    "trailing": (order() + b"x", Reason.MALFORMED_JSON),
    "two documents": (order() + order(), Reason.MALFORMED_JSON),
    "bom": (b"\xef\xbb\xbf" + order(), Reason.MALFORMED_JSON),
    "utf-16": (order().decode().encode("utf-16"), Reason.MALFORMED_JSON),
    "latin-1": (order("data", "customer", value={"name": "X"}).replace(b"X", b"\xe9"), Reason.MALFORMED_JSON),
    "bad utf-8 in an unknown field": (
        order("x", value="X").replace(b'"X"', b'"\xff"'),
        Reason.MALFORMED_JSON,
    ),
    "lone surrogate": (order("data", "customer", value={"name": "\ud800"}), Reason.MALFORMED_JSON),
    "deep": (b'{"data":' + b"[" * 5000 + b"]" * 5000 + b"}", Reason.MALFORMED_JSON),
    "nan": (order("data", "total", value=float("nan")), Reason.MALFORMED_JSON),
    "comment": (order().replace(b"{", b"{/* */", 1), Reason.MALFORMED_JSON),
    "no type": (order("type", drop=True), Reason.INVALID_ENVELOPE),
    "unknown type": (order("type", value="order.shipped"), Reason.UNKNOWN_TYPE),
    "type of another case": (order("type", value="Order.Processed"), Reason.UNKNOWN_TYPE),
    "number as type": (order("type", value=1), Reason.UNKNOWN_TYPE),
    "old specversion": (order("specversion", value="0.3"), Reason.INVALID_ENVELOPE),
    "no id": (order("id", drop=True), Reason.INVALID_ENVELOPE),
    "empty id": (order("id", value=""), Reason.INVALID_ENVELOPE),
    "long id": (order("id", value="x" * 257), Reason.INVALID_ENVELOPE),
    "id with a line break": (order("id", value="a\nb"), Reason.INVALID_ENVELOPE),
    "no source": (order("source", drop=True), Reason.INVALID_ENVELOPE),
    "naive time": (order("time", value="2026-01-01T00:00:00"), Reason.INVALID_ENVELOPE),
    "wrong schema": (order("dataschema", value="urn:postorder:order.processed:9"), Reason.UNKNOWN_SCHEMA),
    "no data": (order("data", drop=True), Reason.INVALID_DATA),
    "data as text": (order("data", value="{}"), Reason.INVALID_DATA),
    "no order id": (order("data", "order_id", drop=True), Reason.INVALID_DATA),
    "empty order id": (order("data", "order_id", value=""), Reason.INVALID_DATA),
    "order id with a space": (order("data", "order_id", value="o 1"), Reason.INVALID_DATA),
    "order id in cyrillic": (order("data", "order_id", value="о-1"), Reason.INVALID_DATA),
    "number as order id": (order("data", "order_id", value=1001), Reason.INVALID_DATA),
    "long order id": (order("data", "order_id", value="x" * 129), Reason.INVALID_DATA),
    "money as number": (order("data", "total", value=74.4), Reason.INVALID_DATA),
    "negative money": (order("data", "total", value="-1.00"), Reason.INVALID_DATA),
    "money with a comma": (order("data", "total", value="1,234.50"), Reason.INVALID_DATA),
    "money in full-width digits": (order("data", "total", value="１２"), Reason.INVALID_DATA),
    "money with an exponent": (order("data", "total", value="1e3"), Reason.INVALID_DATA),
    "five decimals": (order("data", "total", value="1.23456"), Reason.INVALID_DATA),
    "money with a line break": (order("data", "total", value="1.00\n"), Reason.INVALID_DATA),
    "lower-case currency": (order("data", "currency", value="eur"), Reason.INVALID_DATA),
    "naive processed_at": (order("data", "processed_at", value="2026-01-01T00:00:00"), Reason.INVALID_DATA),
    "30 February": (order("data", "processed_at", value="2026-02-30T00:00:00Z"), Reason.INVALID_DATA),
    "epoch seconds": (order("data", "processed_at", value=1_767_225_600), Reason.INVALID_DATA),
    "no customer": (order("data", "customer", drop=True), Reason.INVALID_DATA),
    "null customer": (order("data", "customer", value=None), Reason.INVALID_DATA),
    "long name": (order("data", "customer", value={"name": "x" * 201}), Reason.INVALID_DATA),
    "NUL in a name": (order("data", "customer", value={"name": "a\x00b"}), Reason.INVALID_DATA),
    "quantity of none": (
        order("data", "lines", value=[{"sku": "a", "quantity": 0, "unit_price": "1"}]),
        Reason.INVALID_DATA,
    ),
    "half a piece": (
        order("data", "lines", value=[{"sku": "a", "quantity": 0.5, "unit_price": "1"}]),
        Reason.INVALID_DATA,
    ),
    "too many lines": (
        order("data", "lines", value=[{"sku": "a", "quantity": 1, "unit_price": "1"}] * 1001)[:LIMIT],
        Reason.MALFORMED_JSON,
    ),
    "over the size": (b" " * LIMIT + order(), Reason.TOO_LARGE),
    "no document form": (invoice(filename="a.pdf"), Reason.INVALID_DATA),
    "both document forms": (invoice(content_base64="AA==", url="https://a/b"), Reason.INVALID_DATA),
    "media type with a line break": (
        invoice(content_base64="AA==", media_type="a/b\r\nX: y"),
        Reason.INVALID_DATA,
    ),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_a_valid_event_is_decoded(body: bytes) -> None:
    assert isinstance(decoder.decode(delivery(body)).event, OrderEvent)


def test_an_invoice_is_decoded() -> None:
    assert isinstance(decoder.decode(delivery(invoice())).event, InvoiceEvent)


@pytest.mark.parametrize(("body", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_event_has_a_reason(body: bytes, reason: Reason) -> None:
    with pytest.raises(EventError) as caught:
        decoder.decode(delivery(body))
    assert caught.value.reason == reason
    assert 0 < len(caught.value.detail) <= 300
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/cloudevents+json; charset=UTF-8",
        "APPLICATION/JSON;charset=utf-8",
    ],
)
def test_these_content_types_are_taken(content_type: str | None) -> None:
    decoder.decode(delivery(order(), content_type))


@pytest.mark.parametrize(
    "content_type", ["text/plain", "", "application/xml", "application/json; charset=latin-1"]
)
def test_other_content_types_are_not(content_type: str) -> None:
    with pytest.raises(EventError) as caught:
        decoder.decode(delivery(order(), content_type))
    assert caught.value.reason == Reason.UNSUPPORTED_CONTENT_TYPE
