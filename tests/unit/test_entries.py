"""From event to row: where it goes, what makes two payloads the same, which documents are taken."""

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256

import msgspec
import orjson
import pytest
from deliveries import delivery
from real_stack import customer_event, invoice_event, order_event

from consumers.event_files import as_delivery
from pipeline.errors import EventError
from pipeline.events import Reason
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.entries import EntryBuilder, quarantine_row
from pipeline.observability.correlation import correlation_id
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import slot_of
from pipeline.storage.rows import CustomerRow, InvoiceRow, OrderRow

router = Router(ShardMap.first({"a": 1, "b": 1}))
decoder = Decoder(message_bytes_max=100_000)


def builder(*, http: bool = False) -> EntryBuilder:
    return EntryBuilder(
        router, document_bytes_max=1000, document_hosts=("docs.example", "127.0.0.1:8080"), allow_http=http
    )


def row_of(event: dict, *, http: bool = False):
    shard, row = builder(http=http).of_event(decoder.decode(as_delivery(orjson.dumps(event))))
    key = "customer_id" if event["type"] == "customer.updated" else "order_id"
    assert shard == router.place(event["data"][key]).shard
    return row


def test_an_order_is_placed_by_its_id_and_its_messages_are_named_after_it() -> None:
    row = row_of(order_event("o-1"))
    digest = sha256(b"o-1").digest()
    assert isinstance(row, OrderRow)
    assert row.slot == slot_of("o-1")
    assert row.sms_id == digest[:15] + b"\x01"
    assert row.email_id == digest[:15] + b"\x02"
    invoice = row_of(invoice_event("o-1"))
    assert isinstance(invoice, InvoiceRow)
    assert (invoice.slot, invoice.email_id) == (row.slot, row.email_id)


def test_a_customer_is_placed_by_its_own_id() -> None:
    row = row_of(customer_event("c-1", consent={"sms": "out"}))
    assert isinstance(row, CustomerRow)
    assert row.slot == slot_of("c-1")
    assert (row.customer_id, row.email, row.sms_consent, row.email_consent) == (
        "c-1",
        "c-1@example.com",
        "out",
        None,
    )
    assert row_of(customer_event("c-1")).sms_consent is None


def test_the_payload_is_compared_as_understood_not_as_spelt() -> None:
    event = order_event("o-1")
    spelt = {**event, "time": "2030-01-01T00:00:00Z", "data": dict(reversed(event["data"].items()))}
    other = {**event, "data": {**event["data"], "total": "74.41"}}
    assert row_of(event).payload_hash == row_of(spelt).payload_hash != row_of(other).payload_hash
    assert row_of(event).event_key == row_of(other).event_key


def test_source_and_id_cannot_be_shifted_into_each_other() -> None:
    one = {**order_event("o-1"), "source": "/a", "id": "b/c"}
    two = {**order_event("o-1"), "source": "/a/b", "id": "/c"}
    assert row_of(one).event_key != row_of(two).event_key


@pytest.mark.parametrize("size", [1, 999, 1000])
def test_an_inline_document_up_to_the_limit_is_taken(size: int) -> None:
    content = bytes(size)
    assert row_of(invoice_event("o-1", content_base64=b64encode(content).decode())).document == content


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"content_base64": b64encode(bytes(1003)).decode()}, Reason.DOCUMENT_TOO_LARGE),
        ({"content_base64": ""}, Reason.DOCUMENT_NOT_BASE64),
        ({"content_base64": "abc"}, Reason.DOCUMENT_NOT_BASE64),
        ({"content_base64": "a b="}, Reason.DOCUMENT_NOT_BASE64),
        ({"content_base64": "äöü="}, Reason.DOCUMENT_NOT_BASE64),
        ({"url": "http://docs.example/a.pdf"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "https://evil.example/a.pdf"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "https://docs.example:444/a.pdf"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "https://docs.example@evil.example/a"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "https://user@docs.example/a"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "https://docs.example.evil.example/"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "https://evil.example\\@docs.example/"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "file:///etc/passwd"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "gopher://docs.example/"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "//docs.example/a"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "https://[::1/a"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "https://docs.example/a b"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "https://docs.example/a\r\nX: y"}, Reason.DOCUMENT_HOST_REFUSED),
        ({"url": "http://169.254.169.254/latest"}, Reason.DOCUMENT_HOST_REFUSED),
    ],
)
def test_a_document_that_is_no_good_has_a_reason(document: dict[str, str], reason: Reason) -> None:
    with pytest.raises(EventError) as caught:
        row_of(invoice_event("o-1", **document))
    assert caught.value.reason == reason
    assert caught.value.correlation_id == correlation_id("o-1")


def test_allowed_urls() -> None:
    assert row_of(invoice_event("o-1", url="https://DOCS.example/a.pdf?x=1")).document_url
    assert row_of(invoice_event("o-1", url="http://127.0.0.1:8080/a.pdf"), http=True).document_url


def test_a_quarantine_row_keeps_every_byte_and_is_the_same_every_time() -> None:
    def made(message_id: str) -> Delivery:
        return delivery(
            b"\x00\xff\xfe not json",
            "a\x00b",
            routing_key="order.\x00processed",
            message_id=message_id,
            headers={
                "n": 1,
                "b": b"\x00\xff",
                "t": datetime(2026, 1, 1, tzinfo=UTC),
                "d": {"x": "\x00"},
                "o": {1},
            },
        )

    first = quarantine_row(made("m-1"), None, "malformed_json", "a\x00detail")
    assert first == quarantine_row(made("m-1"), None, "malformed_json", "a\x00detail")
    assert first.body == b"\x00\xff\xfe not json"
    assert orjson.loads(first.headers)["b"] == {"base64": "AP8="}
    assert "\x00" not in "".join(text for text in msgspec.structs.astuple(first) if isinstance(text, str))
    assert first.quarantine_id != quarantine_row(made("m-2"), None, "malformed_json", "").quarantine_id
