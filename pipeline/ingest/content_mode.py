"""How a delivery holds CloudEvents, and their attributes where those are not in the body.

structured  application/cloudevents+json         one event, attributes and data in the body
batch       application/cloudevents-batch+json   an array of such events
binary      application/json with headers ce-…   attributes in headers, the body is the data
plain       application/json without them        no attributes: the type is the routing key's
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from pipeline.errors import EventError
from pipeline.events import CUSTOMER_UPDATED, INVOICE_GENERATED, ORDER_PROCESSED, Reason

STRUCTURED_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"
JSON_TYPE = "application/json"
EVENT_TYPES = (ORDER_PROCESSED, INVOICE_GENERATED, CUSTOMER_UPDATED)

# The binding says `cloudEvents:`, its JMS-friendly form `cloudEvents_`, and many write HTTP's `ce-`.
PREFIXES: Final = ("cloudEvents:", "cloudEvents_", "ce-")
"""What the names of CloudEvents attributes begin with among a message's headers."""
_PLAIN_ENCODINGS = ("", "identity", "utf-8")  # some libraries name the charset here


class ContentMode(StrEnum):
    """How events are put into a message; by content type alone, so JSON may turn out as any but a batch."""

    STRUCTURED = "structured"
    BATCH = "batch"
    JSON = "json"


@lru_cache(maxsize=256)
def content_mode(content_type: str | None, content_encoding: str | None) -> ContentMode:
    """Return the mode. No content type is taken as JSON. Raises EventError for what is not JSON in UTF-8."""
    if content_encoding and content_encoding.lower() not in _PLAIN_ENCODINGS:
        raise EventError(
            Reason.UNSUPPORTED_CONTENT_ENCODING, f"must be absent, not {content_encoding[:40]!a}"
        )
    if content_type is None:
        return ContentMode.JSON
    media_type, _, parameter = content_type.partition(";")
    name, _, charset = parameter.strip().lower().partition("=")
    modes = {
        STRUCTURED_TYPE: ContentMode.STRUCTURED,
        BATCH_TYPE: ContentMode.BATCH,
        JSON_TYPE: ContentMode.JSON,
    }
    mode = modes.get(media_type.strip().lower())
    if mode is None or (name and (name, charset.strip('"')) != ("charset", "utf-8")):
        raise EventError(
            Reason.UNSUPPORTED_CONTENT_TYPE,
            f"must be {STRUCTURED_TYPE}, {BATCH_TYPE} or {JSON_TYPE} in UTF-8, not {content_type[:60]!a}",
        )
    return mode


def header_attributes(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the CloudEvents attributes among a message's headers: empty when it is not in binary mode.

    Raises EventError for an attribute that is no text, or that is there twice with different values.
    """
    found: dict[str, str] = {}
    for header, value in headers.items():
        prefix = next((known for known in PREFIXES if header.startswith(known)), None)
        if prefix is None:
            continue
        name = header.removeprefix(prefix).lower()
        text = _text(name, value)
        if found.setdefault(name, text) != text:
            raise EventError(Reason.INVALID_ENVELOPE, f"two headers differ on `{name[:40]!a}`")
    return found


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    if isinstance(value, datetime) and name == "time":
        # AMQP's own timestamps are seconds of UTC.
        return value.astimezone(UTC).isoformat()
    raise EventError(Reason.INVALID_ENVELOPE, f"header `{name[:40]!a}` must be a text")


def type_of_routing_key(routing_key: str) -> str:
    """Return the event type a plain publisher means. Raises EventError when the key names none."""
    for event_type in EVENT_TYPES:
        if routing_key == event_type or routing_key.startswith(event_type + "."):
            return event_type
    raise EventError(
        Reason.UNKNOWN_TYPE,
        f"without CloudEvents attributes the routing key must begin with one of {', '.join(EVENT_TYPES)}",
    )
