"""The ways to put events into a message: batch, binary, plain; and keys that are there twice."""

import json
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from deliveries import delivery
from real_stack import customer_event, invoice_event, order_event

from pipeline.errors import EventError
from pipeline.events import CustomerEvent, InvoiceEvent, OrderEvent, Reason
from pipeline.ingest.content_mode import ContentMode
from pipeline.ingest.decoder import PLAIN_SOURCE, Decoder

BATCH = "application/cloudevents-batch+json"
decoder = Decoder(message_bytes_max=100_000, message_events_max=10)


def encoded(value) -> bytes:
    return json.dumps(value).encode()


def reason_of(*arguments, **options) -> Reason:
    with pytest.raises(EventError) as caught:
        decoder.decode(delivery(*arguments, **options))
    return caught.value.reason


# --- batches ----------------------------------------------------------------------------------------------


def test_the_members_of_a_batch_are_its_bytes() -> None:
    body = b'[ {"a": 1} , 2,\n"x"]'
    batch = delivery(body, BATCH)
    assert decoder.mode(batch) is ContentMode.BATCH
    assert decoder.members(batch) == [b'{"a": 1}', b"2", b'"x"']


@pytest.mark.parametrize("body", [b"{}", b"[1,", b"", b"null", b'["\xff"]', b"[" * 3000 + b"]" * 3000])
def test_a_batch_that_is_no_array_is_one_bad_delivery(body: bytes) -> None:
    with pytest.raises(EventError):
        decoder.members(delivery(body, BATCH))


def test_a_batch_has_a_limit_so_that_nothing_else_waits_for_it() -> None:
    with pytest.raises(EventError) as caught:
        decoder.members(delivery(encoded([0] * 11), BATCH))
    assert caught.value.reason is Reason.TOO_LARGE


# --- binary mode ------------------------------------------------------------------------------------------


def binary_headers(prefix: str, **changes) -> dict:
    attributes = {"specversion": "1.0", "type": "order.processed", "source": "/shop", "id": "e-1", **changes}
    return {prefix + name: value for name, value in attributes.items() if value is not None}


@pytest.mark.parametrize("prefix", ["ce-", "cloudEvents:", "cloudEvents_"])
@pytest.mark.parametrize("time", ["2026-11-21T10:15:00Z", datetime(2026, 11, 21, 10, 15, tzinfo=UTC)])
def test_binary_mode(prefix: str, time) -> None:
    body = encoded(order_event("o-1")["data"])
    headers = {**binary_headers(prefix, time=time), "x-other": 1}
    event = decoder.decode(delivery(body, "application/json; charset=utf-8", headers=headers)).event
    assert isinstance(event, OrderEvent)
    assert (event.source, event.id, event.data.order_id) == ("/shop", "e-1", "o-1")
    assert event.time == datetime(2026, 11, 21, 10, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None}, Reason.INVALID_ENVELOPE),
        ({"type": None}, Reason.INVALID_ENVELOPE),
        ({"type": "x"}, Reason.UNKNOWN_TYPE),
        ({"specversion": "0.3"}, Reason.INVALID_ENVELOPE),
        ({"time": "yesterday"}, Reason.INVALID_ENVELOPE),
        ({"id": 7}, Reason.INVALID_ENVELOPE),
        ({"id": b"\xff"}, Reason.INVALID_ENVELOPE),
        ({"dataschema": "urn:other"}, Reason.UNKNOWN_SCHEMA),
        ({"datacontenttype": "text/xml"}, Reason.UNSUPPORTED_CONTENT_TYPE),
        ({"type": "invoice.generated"}, Reason.INVALID_DATA),
    ],
)
def test_bad_binary_attributes(changes: dict, reason: Reason) -> None:
    body = encoded(order_event("o-1")["data"])
    assert reason_of(body, "application/json", headers=binary_headers("ce-", **changes)) is reason


def test_two_headers_for_one_attribute_must_agree() -> None:
    body = encoded(order_event("o-1")["data"])
    headers = {**binary_headers("ce-"), "cloudEvents:id": "e-2"}
    assert reason_of(body, "application/json", headers=headers) is Reason.INVALID_ENVELOPE


# --- plain publishers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["application/json", None])
def test_plain_json_takes_its_type_from_the_routing_key(content_type: str | None) -> None:
    order, invoice = order_event("o-1")["data"], invoice_event("o-1", "i-1")["data"]
    found = decoder.decode(delivery(encoded(order), content_type, routing_key="order.processed.eu")).event
    assert (found.source, found.id) == (PLAIN_SOURCE, "o-1")
    found = decoder.decode(delivery(encoded(invoice), content_type, routing_key="invoice.generated")).event
    assert isinstance(found, InvoiceEvent)
    assert found.id == "o-1/i-1"


@pytest.mark.parametrize(
    ("updated_at", "name"),
    [
        ("2026-11-21T11:00:00+01:00", "2026-11-21T11:00:00+01:00"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),  # has no form in UTC
    ],
)
def test_a_plain_customer_is_known_by_the_time_of_its_update(updated_at: str, name: str) -> None:
    customer = customer_event("c-1", updated_at=updated_at)["data"]
    found = decoder.decode(delivery(encoded(customer), None, routing_key="customer.updated")).event
    assert isinstance(found, CustomerEvent)
    assert found.id == f"c-1/{name}"


def test_a_plain_publisher_can_name_the_identity() -> None:
    body = encoded(order_event("o-1")["data"])
    found = decoder.decode(delivery(body, "application/json", headers={"idempotency-key": "k-1"})).event
    assert found.id == "k-1"


def test_a_routing_key_that_names_no_type() -> None:
    body = encoded(order_event("o-1")["data"])
    assert reason_of(body, "application/json", routing_key="order.processedX") is Reason.UNKNOWN_TYPE


def test_a_whole_event_as_application_json_is_structured() -> None:
    body = encoded(order_event("o-1"))
    assert decoder.decode(delivery(body, "application/json", routing_key="anything")).event.source == "/tests"


# --- base64 data ------------------------------------------------------------------------------------------


def test_data_as_base64() -> None:
    event = order_event("o-1")
    data = json.dumps(event.pop("data")).encode()
    event["data_base64"] = b64encode(data).decode()
    assert decoder.decode(delivery(encoded(event))).event.data.order_id == "o-1"
    assert reason_of(encoded({**event, "data_base64": "%%%"})) is Reason.INVALID_DATA
    assert reason_of(encoded({**event, "data_base64": "e30="})) is Reason.INVALID_DATA


# --- keys that are there twice ----------------------------------------------------------------------------

ORDER = json.dumps(order_event("o-1"))
TWICE = {
    "in the data": ORDER.replace('"total": "74.40"', '"total": "74.40", "total": "1.00"'),
    "spaced": ORDER.replace('"total": "74.40"', '"total" : "74.40", "total": "1.00"'),
    "hidden by a missing one": ORDER.replace('"title": "Blue Train"', '"sku": "LP-77"'),
    "in the envelope": ORDER.replace('"type":', '"id": "other", "type":'),
    "in an unknown field": ORDER.replace('"type":', '"x": {"a": 1, "a": 2}, "type":'),
    "the same by an escape": ORDER.replace('"total": "74.40"', '"total": "74.40", "t\\u006ftal": "1.00"'),
}


@pytest.mark.parametrize("text", TWICE.values(), ids=TWICE)
def test_a_key_that_is_there_twice(text: str) -> None:
    json.loads(text)
    assert reason_of(text.encode()) is Reason.DUPLICATE_KEY


@pytest.mark.parametrize(
    "text",
    [
        ORDER.replace("Blue Train", 'Blue\\" :Train\\":'),
        ORDER.replace('"type":', '"traceparent": "00-1", "type" \t:'),
        json.dumps(order_event("o-1"), indent=2),
        json.dumps(order_event("o-1"), separators=(",", ":")),
    ],
)
def test_unusual_spelling_is_no_duplicate(text: str) -> None:
    assert decoder.decode(delivery(text.encode())).event.data.order_id == "o-1"


# --- content types and encodings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["text/xml", "application/json; charset=latin-1", "", "\x00", "json"]
)
def test_other_content_types(content_type: str) -> None:
    assert reason_of(ORDER.encode(), content_type) is Reason.UNSUPPORTED_CONTENT_TYPE


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x"])
def test_encoded_content_is_not_unpacked(encoding: str) -> None:
    found = reason_of(ORDER.encode(), content_encoding=encoding)
    assert found is Reason.UNSUPPORTED_CONTENT_ENCODING


def test_a_charset_named_as_encoding_is_none() -> None:
    assert decoder.decode(delivery(ORDER.encode(), content_encoding="utf-8"))
