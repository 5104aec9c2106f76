"""A span: something that was done, from when until when, and in whose trace."""

from enum import IntEnum
from os import urandom

import msgspec

from pipeline.observability.tracing.context import TraceContext

Attribute = str | int | float | bool

SPAN_ID_BYTES = 8
TRACE_ID_BYTES = 16


class SpanKind(IntEnum):
    """What part a span plays between systems. The numbers are OTLP's."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Span(msgspec.Struct, kw_only=True):
    """One span, ended. Times are nanoseconds since 1970. Attributes are ids and codes, never personal data.

    `parent_id` empty: it begins its trace. `is_remote`: its parent is another process's. `links` are bounded
    by who makes them; `links_dropped` says how many more there would be. `error`: a code, where it failed.
    """

    name: str
    kind: SpanKind
    context: TraceContext
    start_ns: int = 0
    end_ns: int = 0
    parent_id: bytes = b""
    is_remote: bool = False
    attributes: dict[str, Attribute] = {}
    links: tuple[TraceContext, ...] = ()
    links_dropped: int = 0
    error: str | None = None


def new_trace() -> TraceContext:
    """Return the context of a span that begins a trace of its own."""
    return TraceContext(urandom(TRACE_ID_BYTES), urandom(SPAN_ID_BYTES))


def new_child(parent: TraceContext) -> TraceContext:
    """Return the context of a span within a trace."""
    return TraceContext(parent.trace_id, urandom(SPAN_ID_BYTES), True, parent.state)  # noqa: FBT003  # sampled
