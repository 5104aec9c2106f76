"""From bytes to an event, or to the reason why they are none. Pure: the same bytes, the same answer."""

from typing import Any

import msgspec

from pipeline.errors import EventError
from pipeline.events import DATA_SCHEMAS, INVOICE_GENERATED, ORDER_PROCESSED, Event, InvoiceEvent, Reason
from pipeline.ingest.delivery import Delivery

STRUCTURED_TYPES = ("application/cloudevents+json", "application/json")
_DETAIL_CHARS_MAX = 200


class Decoder:
    """Decodes deliveries. One instance serves a process."""

    def __init__(self, *, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._structured = msgspec.json.Decoder(Event)

    def decode(self, delivery: Delivery) -> Event:
        """Return the event of a delivery. Raises EventError with the reason for quarantine."""
        body = delivery.body
        if len(body) > self._message_bytes_max:
            raise EventError(Reason.TOO_LARGE, f"{len(body)} bytes; {self._message_bytes_max} are allowed")
        _check_content_type(delivery.content_type)
        try:
            # The JSON decoder skips unknown fields without looking, so bad UTF-8 could hide there.
            str(body, "utf-8")
            event: Event = self._structured.decode(body)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            raise _explained(error) from None
        expected = DATA_SCHEMAS[INVOICE_GENERATED if type(event) is InvoiceEvent else ORDER_PROCESSED]
        if event.dataschema is not None and event.dataschema != expected:
            raise EventError(Reason.UNKNOWN_SCHEMA, f"`dataschema` must be {expected} or absent")
        if b"\\u0000" in body and _has_nul(msgspec.to_builtins(event)):
            raise EventError(Reason.INVALID_DATA, "a text holds the character NUL, which cannot be stored")
        return event


def _check_content_type(content_type: str | None) -> None:
    """Refuse what is not JSON in UTF-8. No content type at all is taken as structured JSON."""
    if content_type is None:
        return
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() not in STRUCTURED_TYPES or charset not in ("", "utf-8"):
        raise EventError(
            Reason.UNSUPPORTED_CONTENT_TYPE,
            f"must be {STRUCTURED_TYPES[0]} in UTF-8, not {content_type[:80]}",
        )


def _explained(error: Exception) -> EventError:
    """Say which rule was broken and where. msgspec's texts name paths and rules, and no customer's data."""
    text = str(error)[:_DETAIL_CHARS_MAX]
    match error:
        case msgspec.ValidationError() if text.endswith("`$.type`"):
            known = f"`type` must be {ORDER_PROCESSED} or {INVOICE_GENERATED}"
            return EventError(Reason.UNKNOWN_TYPE, known)
        case msgspec.ValidationError() if "`$.data" in text or "field `data`" in text:
            return EventError(Reason.INVALID_DATA, text)
        case msgspec.ValidationError():
            return EventError(Reason.INVALID_ENVELOPE, text)
        case UnicodeDecodeError():
            return EventError(Reason.MALFORMED_JSON, f"not UTF-8 at byte {error.start}")
        case RecursionError():
            return EventError(Reason.MALFORMED_JSON, "nested too deeply")
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
