"""From an event to the row it becomes, and from a bad delivery to its quarantine row."""

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson

from pipeline.errors import EventError
from pipeline.events import CustomerEvent, Document, Event, InvoiceEvent, OrderEvent, Reason
from pipeline.ingest.content_mode import STRUCTURED_TYPE
from pipeline.ingest.decoder import Decoded
from pipeline.ingest.delivery import UNDECODABLE_HEADER, Delivery
from pipeline.observability.correlation import correlation_bytes
from pipeline.sharding.router import Router
from pipeline.sharding.slots import slot_of_digest
from pipeline.storage.rows import AnyRow, CustomerRow, InvoiceRow, OrderRow, QuarantineRow

_HASH_BYTES = 16
_UNDECODABLE = UNDECODABLE_HEADER.encode()
_BROKER_HEADERS = frozenset(
    (
        "x-death", "x-delivery-count", "x-first-death-exchange", "x-first-death-queue",
        "x-first-death-reason", "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason",
    )
)  # fmt: skip
_OWN_MEDIA_TYPE = "application/pdf"  # of the document that is made when upstream sends none
_ORDER_SMS, _ORDER_EMAIL = b"\x01", b"\x02"  # the last byte of an effect id, as in effect_id_of()

_encode_json = msgspec.json.Encoder().encode


class EntryBuilder:
    """Places events on shards and builds their rows."""

    def __init__(
        self, router: Router, *, document_bytes_max: int, document_hosts: Sequence[str], allow_http: bool
    ) -> None:
        self._router = router
        self._document_bytes_max = document_bytes_max
        self._document_hosts = frozenset(host.lower() for host in document_hosts)
        self._schemes = ("https", "http") if allow_http else ("https",)

    def of_event(self, decoded: Decoded) -> tuple[str, AnyRow]:
        """Return the shard and the row of an event. Raises EventError for a document that is no good."""
        event = decoded.event
        # Of the data as understood, not as spelt: white space or the order of fields makes no new payload.
        payload_hash = sha256(decoded.canonical).digest()[:_HASH_BYTES]
        if isinstance(event, OrderEvent):
            shard, slot, digest = self._router.place(event.data.order_id)
            return shard, _order_row(event, slot, digest[: _HASH_BYTES - 1], payload_hash)
        if isinstance(event, InvoiceEvent):
            shard, slot, digest = self._router.place(event.data.order_id)
            try:
                return shard, self._invoice_row(event, slot, digest[: _HASH_BYTES - 1], payload_hash)
            except EventError as error:
                error.correlation_id = correlation_bytes(digest).hex()
                raise
        shard, slot, _ = self._router.place(event.data.customer_id)
        return shard, _customer_row(event, slot, payload_hash)

    def of_bad_event(
        self, error: EventError, delivery: Delivery, member: bytes | None = None
    ) -> tuple[str, QuarantineRow]:
        """Return the shard and the row of what goes to quarantine: a delivery, or one member of a batch."""
        row = quarantine_row(delivery, member, error.reason, error.detail, of_order=error.correlation_id)
        return self._router.shard_of(row.slot), row

    def _invoice_row(self, event: InvoiceEvent, slot: int, effect: bytes, payload_hash: bytes) -> InvoiceRow:
        data = event.data
        document = data.document
        return InvoiceRow(
            slot,
            _event_key(event),
            payload_hash,
            event.source,
            event.id,
            event.time,
            data.order_id,
            data.invoice_id,
            data.number,
            data.currency,
            data.total,
            data.issued_at,
            document.media_type if document else _OWN_MEDIA_TYPE,
            document.filename if document else None,
            self._content(document) if document else None,
            self._url(document) if document else None,
            effect + _ORDER_EMAIL,
        )

    def _content(self, document: Document) -> bytes | None:
        text = document.content_base64
        if text is None:
            return None
        if len(text) > (self._document_bytes_max + 2) // 3 * 4:
            raise EventError(Reason.DOCUMENT_TOO_LARGE, f"more than {self._document_bytes_max} bytes")
        try:
            content = a2b_base64(text, strict_mode=True)
        except (Base64Error, ValueError) as error:
            raise EventError(Reason.DOCUMENT_NOT_BASE64, "`content_base64` is not base64") from error
        if not content:
            raise EventError(Reason.DOCUMENT_NOT_BASE64, "`content_base64` is empty")
        return content

    def _url(self, document: Document) -> str | None:
        if document.url is None:
            return None
        try:
            parts = urlsplit(document.url)
            allowed = parts.scheme in self._schemes and parts.netloc.lower() in self._document_hosts
        except ValueError:
            allowed = False
        # netloc holds user and port too, so that neither can smuggle another host past the list.
        if not allowed or not document.url.isprintable() or " " in document.url:
            raise EventError(
                Reason.DOCUMENT_HOST_REFUSED, "the URL's scheme or host is not in intake.document_hosts"
            )
        return document.url


def quarantine_row(
    delivery: Delivery,
    member: bytes | None,
    reason: str,
    detail: str,
    *,
    slot: int | None = None,
    of_order: str | None = None,
) -> QuarantineRow:
    """Keep a delivery, or its member, byte for byte. The same one always gets the same id and slot.

    `slot` is the order's where that is known: the row is written on the order's shard. `of_order`: the
    order's correlation id, likewise.
    """
    body = delivery.body if member is None else member
    content_type = delivery.content_type if member is None else STRUCTURED_TYPE
    headers, message_id = _headers(delivery)
    # Brokers count deliveries in the headers, so bytes that nobody can take apart make no stable id.
    stable = headers if _UNDECODABLE not in headers else b""
    parts = (delivery.queue, delivery.routing_key, content_type, message_id, stable)
    digest = sha256(repr(parts).encode() + body).digest()
    return QuarantineRow(
        slot=slot_of_digest(digest) if slot is None else slot,
        quarantine_id=digest[:_HASH_BYTES],
        reason=reason,
        detail=_storable(detail),
        queue=delivery.queue,
        exchange=_storable(delivery.exchange),
        routing_key=_storable(delivery.routing_key),
        content_type=_storable(content_type),
        message_id=_storable(message_id),
        headers=headers.decode().replace("\\u0000", "\\ufffd"),
        body=body,
        of_order=of_order,
    )


def _order_row(event: OrderEvent, slot: int, effect: bytes, payload_hash: bytes) -> OrderRow:
    data = event.data
    customer = data.customer
    return OrderRow(
        slot,
        _event_key(event),
        payload_hash,
        event.source,
        event.id,
        event.time,
        data.order_id,
        effect + _ORDER_SMS,
        effect + _ORDER_EMAIL,
        data.number,
        customer.id,
        customer.name,
        customer.email,
        customer.phone,
        customer.locale,
        customer.country,
        data.currency,
        data.total,
        _encode_json(data.lines),
        data.processed_at,
    )


def _customer_row(event: CustomerEvent, slot: int, payload_hash: bytes) -> CustomerRow:
    data = event.data
    consent = data.consent
    return CustomerRow(
        slot,
        _event_key(event),
        payload_hash,
        event.source,
        event.id,
        event.time,
        data.customer_id,
        data.updated_at,
        data.name,
        data.email,
        data.phone,
        data.locale,
        data.country,
        consent.sms if consent else None,
        consent.email if consent else None,
    )


def _event_key(event: Event) -> bytes:
    return sha256(f"{event.source}\n{event.id}".encode()).digest()[:_HASH_BYTES]


def _headers(delivery: Delivery) -> tuple[bytes, str | None]:
    """Return a delivery's headers as JSON, and its message id; what cannot be read is kept as bytes."""
    try:
        properties = delivery.properties
        # What brokers add on the way is not the publisher's; without it, the message has the same id again.
        headers = {name: value for name, value in properties.headers.items() if name not in _BROKER_HEADERS}
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS
        return orjson.dumps(headers, default=_json_header, option=options), properties.message_id
    except (EventError, TypeError, ValueError, RecursionError):
        # Undecodable, or nested deeper than JSON is written.
        return b'{"%s":"%s"}' % (_UNDECODABLE, b64encode(delivery.raw_properties)), None


def _storable(text: Any) -> Any:
    """PostgreSQL's text holds no NUL; the exact bytes are in `body` only."""
    return text.replace("\x00", "\ufffd") if isinstance(text, str) else text


def _json_header(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return {"base64": b64encode(value).decode()}
    return repr(value)
