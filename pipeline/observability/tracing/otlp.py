"""Spans as OTLP has them: opentelemetry.proto.collector.trace.v1, in protobuf."""

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from pipeline.observability.tracing.span import Attribute, Span

CONTENT_TYPE: Final = "application/x-protobuf"
_SCOPE = InstrumentationScope(name="postorder")
# Flags of the wire: the trace's own in the lowest byte, then whether it is known that the parent is remote.
_FLAGS_LOCAL, _FLAGS_REMOTE = 0x101, 0x301


def encode(resource: Mapping[str, Attribute], spans: Sequence[Span]) -> bytes:
    """Return the body of a request that brings spans."""
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=_attributes(resource)),
                scope_spans=[ScopeSpans(scope=_SCOPE, spans=[_span(span) for span in spans])],
            )
        ]
    ).SerializeToString()


def rejected(body: bytes) -> int:
    """Return how many spans a receiver says it did not take, by the body of its answer."""
    try:
        answer = ExportTraceServiceResponse.FromString(body)
    except DecodeError:
        return 0  # it said 200, and some receivers answer in JSON whatever they are asked
    return int(answer.partial_success.rejected_spans)


def _span(span: Span) -> WireSpan:
    context = span.context
    return WireSpan(
        trace_id=context.trace_id,
        span_id=context.span_id,
        trace_state=context.state,
        parent_span_id=span.parent_id,
        flags=_FLAGS_REMOTE if span.is_remote else _FLAGS_LOCAL,
        name=span.name,
        kind=WireSpan.SpanKind.ValueType(span.kind),
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=max(span.start_ns, span.end_ns),
        attributes=_attributes(span.attributes),
        links=[
            WireSpan.Link(trace_id=link.trace_id, span_id=link.span_id, trace_state=link.state)
            for link in span.links
        ],
        dropped_links_count=span.links_dropped,
        status=None if span.error is None else Status(code=Status.STATUS_CODE_ERROR, message=span.error),
    )


def _attributes(attributes: Mapping[str, Attribute]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Attribute) -> AnyValue:
    if isinstance(value, bool):  # before int, of which it is one
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=value)
