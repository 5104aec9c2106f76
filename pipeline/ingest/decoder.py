"""From bytes to an event, or to the reason why they are none. Pure: the same bytes, the same answer."""

import json
from base64 import b64decode
from functools import lru_cache
from typing import Any, Final

import msgspec

from pipeline.errors import EventError
from pipeline.events import (
    DATA_SCHEMAS,
    SPEC_VERSION,
    Attributes,
    CustomerEvent,
    CustomerUpdated,
    Event,
    InvoiceEvent,
    InvoiceGenerated,
    OrderEvent,
    OrderProcessed,
    Reason,
    type_of,
)
from pipeline.ingest.content_mode import (
    EVENT_TYPES,
    JSON_TYPE,
    ContentMode,
    content_mode,
    header_attributes,
    type_of_routing_key,
)
from pipeline.ingest.delivery import Delivery

PLAIN_SOURCE: Final = "urn:postorder:plain"
IDENTITY_HEADER: Final = "idempotency-key"
_DETAIL_CHARS_MAX = 200
_DATA_PLACES = ("`$.data_base64`", "`$.data.", "`$.data`", "`$.data[", "field `data`")
_OBJECTS_MAX = 10_000  # an order with all its lines has a tenth of that


class Decoded(msgspec.Struct, gc=False):
    """An event, and its data in canonical JSON: the same for two spellings of the same data."""

    event: Event
    canonical: bytes


class _Carrier(Attributes, frozen=True, kw_only=True):
    """A structured event whose data is base64, as the JSON format allows."""

    type: str
    data_base64: str


class _Probe(msgspec.Struct, frozen=True):
    specversion: msgspec.Raw = msgspec.Raw()


_encode = msgspec.json.Encoder().encode
_Data = OrderProcessed | InvoiceGenerated | CustomerUpdated
_KINDS: dict[type, type[OrderEvent | InvoiceEvent | CustomerEvent]] = {
    OrderProcessed: OrderEvent,
    InvoiceGenerated: InvoiceEvent,
    CustomerUpdated: CustomerEvent,
}


class Decoder:
    """Decodes deliveries. One instance serves a process."""

    def __init__(self, *, message_bytes_max: int, message_events_max: int = 1000) -> None:
        self._message_bytes_max = message_bytes_max
        self._message_events_max = message_events_max
        self._structured = msgspec.json.Decoder(Event)
        self._members = msgspec.json.Decoder(list[msgspec.Raw])
        self._carrier = msgspec.json.Decoder(_Carrier)
        self._probe = msgspec.json.Decoder(_Probe)
        self._data: dict[str, msgspec.json.Decoder[Any]] = {
            str(event.__struct_config__.tag): msgspec.json.Decoder(data) for data, event in _KINDS.items()
        }

    def mode(self, delivery: Delivery) -> ContentMode:
        """Return how the events are put into a delivery. Raises EventError for a bad type or size."""
        if len(delivery.body) > self._message_bytes_max:
            raise EventError(
                Reason.TOO_LARGE, f"{len(delivery.body)} bytes; {self._message_bytes_max} are allowed"
            )
        return content_mode(delivery.content_type, delivery.content_encoding)

    def decode(self, delivery: Delivery, mode: ContentMode | None = None) -> Decoded:
        """Return the one event of a delivery that is no batch; `mode` is its mode, where that is known.

        Raises EventError with the reason.
        """
        if (mode or self.mode(delivery)) is ContentMode.STRUCTURED:
            return self.decode_structured(delivery.body)
        return self._decode_json(delivery)

    def members(self, delivery: Delivery) -> list[bytes]:
        """Return the events of a batch as they stand in it.

        Raises EventError when it is no JSON array, or so long that nothing else would be done meanwhile.
        """
        try:
            str(delivery.body, "utf-8")
            members = self._members.decode(delivery.body)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            raise _explained(error) from None
        if len(members) > self._message_events_max:
            raise EventError(
                Reason.TOO_LARGE, f"{len(members)} events; {self._message_events_max} are allowed"
            )
        return [bytes(member) for member in members]

    def decode_structured(self, body: bytes) -> Decoded:
        """Return the event of a structured body. Raises EventError with the reason."""
        try:
            # The JSON decoder skips unknown fields without looking, so bad UTF-8 could hide there.
            str(body, "utf-8")
            event: Event = self._structured.decode(body)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            if b'"data_base64"' in body and "missing required field `data`" in str(error):
                return self._decode_carrier(body)
            raise _explained(error) from None
        return _checked(event, body, attributes_in_body=True)

    def _decode_carrier(self, body: bytes) -> Decoded:
        try:
            carrier = self._carrier.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _explained(error) from None
        try:
            data = b64decode(carrier.data_base64, validate=True)
        except ValueError:
            raise EventError(Reason.INVALID_DATA, "`data_base64` is not base64") from None
        _check_unique_keys(body)
        attributes = {name: getattr(carrier, name) for name in Attributes.__struct_fields__}
        return self._decode_data(carrier.type, attributes, data)

    def _decode_json(self, delivery: Delivery) -> Decoded:
        """Decode application/json: binary mode by its headers, else structured, else a plain publisher's."""
        headers = delivery.properties.headers
        if found := header_attributes(headers):
            return self._decode_binary(found, delivery.body)
        try:
            structured = bool(self._probe.decode(delivery.body).specversion)
        except (msgspec.DecodeError, RecursionError):
            structured = True  # whatever it is, the structured decoder says best what is wrong
        if structured:
            return self.decode_structured(delivery.body)
        event_type = type_of_routing_key(delivery.routing_key)
        attributes: dict[str, Any] = {"specversion": SPEC_VERSION, "source": PLAIN_SOURCE}
        if IDENTITY_HEADER in headers:
            attributes = _header_values({**attributes, "id": headers[IDENTITY_HEADER]})
        else:
            # Without one of its own, an event is the one of its type for that order or invoice, or for that
            # customer at that time.
            attributes["id"] = None
        return self._decode_data(event_type, attributes, delivery.body)

    def _decode_binary(self, found: dict[str, str], body: bytes) -> Decoded:
        attributes = _header_values(
            {name: found[name] for name in Attributes.__struct_fields__ if name in found}
        )
        if "type" not in found:
            raise EventError(Reason.INVALID_ENVELOPE, "headers: the attribute `type` is missing")
        return self._decode_data(found["type"], attributes, body)

    def _decode_data(self, event_type: str, attributes: dict[str, Any], body: bytes) -> Decoded:
        """Decode data that came apart from its attributes."""
        decoder = self._data.get(event_type)
        if decoder is None:
            raise _unknown_type()
        try:
            str(body, "utf-8")
            data: Any = decoder.decode(body)
            if attributes["id"] is None:
                attributes["id"] = _natural_id(data)
            event: Event = _KINDS[type(data)](**attributes, data=data)
        except msgspec.ValidationError as error:
            raise EventError(Reason.INVALID_DATA, str(error)[:_DETAIL_CHARS_MAX]) from None
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError, ValueError) as error:
            raise _explained(error) from None
        return _checked(event, body, attributes_in_body=False)


def _natural_id(data: _Data) -> str:
    match data:
        case OrderProcessed():
            return data.order_id
        case InvoiceGenerated():
            return f"{data.order_id}/{data.invoice_id}"
    return f"{data.customer_id}/{data.updated_at.isoformat()}"


def _checked(event: Event, body: bytes, *, attributes_in_body: bool) -> Decoded:
    """Check what the types cannot say, and return the event with its canonical data."""
    if event.datacontenttype is not None:
        _check_data_type(event.datacontenttype)
    schema = event.dataschema
    if schema is not None:
        expected = DATA_SCHEMAS[type_of(event)]
        if schema != expected:
            raise EventError(Reason.UNKNOWN_SCHEMA, f"`dataschema` must be {expected} or absent")
    escapes = b"\\u" in body
    if escapes and b"\\u0000" in body and _has_nul(msgspec.to_builtins(event)):
        raise EventError(Reason.INVALID_DATA, "a text holds the character NUL, which cannot be stored")
    canonical = _encode(event.data)
    # As many keys as the event has fields: then none is there twice. Any doubt is settled by looking.
    keys = canonical.count(b'":')
    if attributes_in_body:
        keys += 5  # specversion, id, source, type, data
        keys += (event.time is not None) + (event.datacontenttype is not None) + (schema is not None)
    if escapes or body.translate(None, b" \t\n\r").count(b'":') != keys:
        _check_unique_keys(body)
    return Decoded(event, canonical)


def _header_values(found: dict[str, Any]) -> dict[str, Any]:
    try:
        return msgspec.structs.asdict(msgspec.convert(found, Attributes, strict=True))
    except msgspec.ValidationError as error:
        raise EventError(Reason.INVALID_ENVELOPE, f"headers: {error}") from None


@lru_cache(maxsize=64)
def _check_data_type(data_type: str) -> None:
    """Refuse data that is not JSON in UTF-8. What is refused is not cached."""
    try:
        is_json = content_mode(data_type, None) is ContentMode.JSON
    except EventError:
        is_json = False
    if not is_json:
        raise EventError(Reason.UNSUPPORTED_CONTENT_TYPE, f"`datacontenttype` must be {JSON_TYPE}")


def _check_unique_keys(body: bytes) -> None:
    """Raise EventError when a JSON object has a key twice: readers differ on which one counts."""

    def unique(pairs: list[tuple[str, Any]]) -> frozenset[str]:
        keys = frozenset(key for key, _ in pairs)
        if len(keys) != len(pairs):
            raise EventError(Reason.DUPLICATE_KEY, "an object has the same key twice")
        return keys

    if body.count(b"{") > _OBJECTS_MAX:
        raise EventError(Reason.TOO_LARGE, f"more than {_OBJECTS_MAX} objects in one event")
    try:
        # Numbers stay texts: nobody asked for their value, and Python refuses to read very long ones.
        outermost = json.loads(body, object_pairs_hook=unique, parse_int=str, parse_float=str)
        if isinstance(outermost, frozenset) and {"specversion", "data", "data_base64"} <= outermost:
            raise EventError(Reason.INVALID_ENVELOPE, "give one of `data` and `data_base64`")
    except RecursionError:
        raise EventError(Reason.MALFORMED_JSON, "nested too deeply") from None
    except ValueError as error:
        # The event decoder skips unknown fields faster than it checks them.
        raise EventError(Reason.MALFORMED_JSON, type(error).__name__) from None


def _unknown_type() -> EventError:
    return EventError(Reason.UNKNOWN_TYPE, f"`type` must be one of {', '.join(EVENT_TYPES)}")


def _explained(error: Exception) -> EventError:
    """Say which rule was broken and where. msgspec's texts name paths and rules, and no customer's data."""
    found = str(error)
    text = found[:_DETAIL_CHARS_MAX]
    match error:
        case msgspec.ValidationError() if found.endswith("`$.type`"):
            return _unknown_type()
        case msgspec.ValidationError() if any(place in found for place in _DATA_PLACES):
            return EventError(Reason.INVALID_DATA, text)
        case msgspec.ValidationError():
            return EventError(Reason.INVALID_ENVELOPE, text)
        case UnicodeDecodeError():
            text = f"not UTF-8 at byte {error.start}"
        case RecursionError():
            text = "nested too deeply"
    return EventError(Reason.MALFORMED_JSON, text)


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\x00" in value
        case dict():
            return any(_has_nul(item) for item in value.values())
        case list():
            return any(_has_nul(item) for item in value)
    return False
