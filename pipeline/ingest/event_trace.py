"""The trace that an event comes with.

Two places may name it: the message's headers (W3C Trace Context over AMQP, w3.org/TR/trace-context-amqp),
and the event itself (the CloudEvents extension Distributed Tracing). The headers are of the last step before
us, so they count; but those of a message that carries a batch are of the batch, so there the event's own
count first.
"""

import re
from typing import Final

import msgspec

from pipeline.errors import EventError
from pipeline.ingest.batcher import Item
from pipeline.ingest.content_mode import PREFIXES
from pipeline.observability.tracing.context import TraceContext, parse

_NAME = b"traceparent"
UNSAMPLED: Final = TraceContext(b"", b"", is_sampled=False)
"""Stands for every valid context that upstream has not sampled: nothing more is asked about it."""
# As it stands in a table of AMQP (a text, `S`, of 55 characters, of which 7 is the code) or in JSON. Where
# most events come with a trace and few are sampled, taking all headers apart would cost more than all else.
_UNSAMPLED = re.compile(
    rb'(?:S\x00\x00\x007|"[ \t\r\n]{0,8}:[ \t\r\n]{0,8}")'
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]"
)


class _Extension(msgspec.Struct):
    traceparent: str | None = None
    tracestate: str | None = None


_extension = msgspec.json.Decoder(_Extension)


def trace_of(item: Item) -> TraceContext | None:
    """Return the context an event comes with; None for none, and for what is no valid one. Raises nothing.

    0.2 µs where there is none, less than 1 µs where it is not sampled, 20 µs where it is.
    """
    raw, member = item.delivery.raw_properties, item.member
    body = item.delivery.body if member is None else member
    _, in_headers, after = raw.partition(_NAME)  # a quarter of the time that `in` takes
    _, in_body, after_in_body = body.partition(_NAME)
    if not in_headers and not in_body:
        return None
    found = _in_body(body, after_in_body) if in_body and member is not None else None
    if found is None and in_headers:
        found = _in_headers(item, after)
    if found is None and in_body and member is None:
        found = _in_body(body, after_in_body)
    return found


def _in_headers(item: Item, after: bytes) -> TraceContext | None:
    if _is_unsampled(after):
        return UNSAMPLED
    try:
        headers = item.delivery.properties.headers
    except EventError:  # then the delivery is in quarantine, and its headers with it
        return None
    for prefix in ("", *PREFIXES):
        context = parse(headers.get(f"{prefix}traceparent"), headers.get(f"{prefix}tracestate"))
        if context is not None:
            return context
    return None


def _in_body(body: bytes, after: bytes) -> TraceContext | None:
    if _is_unsampled(after):
        return UNSAMPLED
    try:
        extension = _extension.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # no JSON object, or an extension of the same name that is no text
    return parse(extension.traceparent, extension.tracestate)


def _is_unsampled(after: bytes) -> bool:
    """Return whether what follows the name is a valid context that is not sampled, and there is no other."""
    return _UNSAMPLED.match(after) is not None and not after.partition(_NAME)[1]
