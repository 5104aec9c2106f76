"""Traces of flow one: a span for each traced event of a batch, and one for the transaction they share.

    process order.processed   from the delivery to the commit, in upstream's trace or one of the order's own
        ⇄ links
    write batch               the transaction: it belongs to many traces, so it is in none of them

Who sends the messages goes on under the event's span: its context is kept beside them (outbox.trace_context).
"""

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final, NamedTuple

from pipeline.ingest.batcher import Batch, Item
from pipeline.ingest.event_trace import trace_of
from pipeline.observability.tracing.context import TraceContext
from pipeline.observability.tracing.sampler import Sampler
from pipeline.observability.tracing.span import Attribute, Span, SpanKind, new_child, new_trace
from pipeline.storage.rows import (
    AnyRow,
    BatchCounts,
    CustomerRow,
    InvoiceRow,
    OrderRow,
    OwedTrace,
    QuarantineRow,
)

LINKS_MAX: Final = 64
_INVOICE_EMAIL = b"\x03"  # the last byte of an invoice mail's id, as in effect_id_of()
# What the decision to trace, and the trace's id, follow from where upstream has no trace: of an order and its
# invoices it is the order's digest.
_KEYS: Final[dict[type, Callable[[Any], bytes]]] = {
    OrderRow: attrgetter("sms_id"),
    InvoiceRow: attrgetter("email_id"),
    CustomerRow: attrgetter("event_key"),
    QuarantineRow: attrgetter("quarantine_id"),
}
_NAMES: Final[dict[type, str]] = {
    OrderRow: "process order.processed",
    InvoiceRow: "process invoice.generated",
    CustomerRow: "process customer.updated",
    QuarantineRow: "quarantine",
}


class TracedEvent(NamedTuple):
    """An event that is traced, the span it came from, and its own."""

    item: Item
    parent: TraceContext | None
    context: TraceContext


class TracedBatch(NamedTuple):
    """The traced events of a batch, and what is to be kept beside the messages they lead to."""

    events: tuple[TracedEvent, ...]
    owed: tuple[OwedTrace, ...]
    began: float  # on the monotonic clock


class BatchTraces:
    """Picks the events of a batch that are traced, and makes their spans. One instance serves a process."""

    def __init__(self, sampler: Sampler, put: Callable[[Span], None]) -> None:
        self._sampler = sampler
        self._put = put

    def begin(self, items: Sequence[Item]) -> TracedBatch | None:
        """Return the traced events of a batch that is about to be written; None when there is none."""
        threshold, keys, admit = self._sampler.threshold, _KEYS, self._sampler.admit
        picked = []
        for item in items:
            if (parent := trace_of(item)) is not None:
                if parent.is_sampled and admit():
                    picked.append(TracedEvent(item, parent, new_child(parent)))
            elif keys[type(item.row)](item.row) < threshold and admit():
                picked.append(TracedEvent(item, None, _own_trace(item.row)))
        if not picked:
            return None
        owed = tuple(owed for event in picked for owed in _owed(event))
        return TracedBatch(tuple(picked), owed, time.monotonic())

    def end(
        self, traced: TracedBatch, shard: str, batch: Batch, outcome: str, counts: BatchCounts | None
    ) -> None:
        """Make the spans of a batch that was written, or was not: `counts` None."""
        now_ns, now = time.time_ns(), time.monotonic()
        began_ns = now_ns - _ns(now - traced.began)
        error = None if counts is not None else outcome
        written = _batch_span(traced, shard, batch, outcome, counts)
        written.start_ns, written.end_ns, written.error = began_ns, now_ns, error
        self._put(written)
        for item, parent, context in traced.events:
            received_ns = now_ns - _ns(now - item.delivery.received_at)
            self._put(
                Span(
                    name=_NAMES[type(item.row)],
                    kind=SpanKind.CONSUMER,
                    context=context,
                    parent_id=parent.span_id if parent else b"",
                    is_remote=parent is not None,
                    start_ns=received_ns,
                    end_ns=now_ns,
                    attributes=_attributes(item, shard, began_ns - received_ns),
                    links=(written.context,),
                    error=error,
                )
            )


def _batch_span(
    traced: TracedBatch, shard: str, batch: Batch, outcome: str, counts: BatchCounts | None
) -> Span:
    links = tuple(event.context for event in traced.events[:LINKS_MAX])
    attributes: dict[str, Attribute] = {
        "messaging.system": "rabbitmq",
        "messaging.batch.message_count": len(batch.items),
        "postorder.shard": shard,
        "postorder.trigger": batch.trigger.value,
        "postorder.outcome": outcome,
    }
    if counts is not None:
        attributes |= {f"postorder.batch.{name}": count for name, count in counts._asdict().items()}
    return Span(
        name="write batch",
        kind=SpanKind.INTERNAL,
        context=new_trace(),
        attributes=attributes,
        links=links,
        links_dropped=len(traced.events) - len(links),
    )


def _own_trace(row: AnyRow) -> TraceContext:
    """Return the context of a span that begins the trace of a row's order; its id is the correlation id."""
    trace_id = bytes.fromhex(row.correlation)
    return TraceContext(trace_id, new_trace().span_id)


def _owed(event: TracedEvent) -> list[OwedTrace]:
    """Return the messages that an event may lead to, each with its trace."""
    row, text = event.item.row, event.context.text
    if isinstance(row, OrderRow):
        return [OwedTrace(row.slot, row.sms_id, text), OwedTrace(row.slot, row.email_id, text)]
    if isinstance(row, InvoiceRow):
        digest = sha256(f"{row.order_id} {row.invoice_id}".encode()).digest()
        return [OwedTrace(row.slot, digest[:15] + _INVOICE_EMAIL, text)]
    return []


def _attributes(item: Item, shard: str, waited_ns: int) -> dict[str, Attribute]:
    row, delivery = item.row, item.delivery
    attributes: dict[str, Attribute] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": delivery.queue,
        "messaging.message.body.size": len(item.member or delivery.body),
        "postorder.correlation_id": row.correlation,
        "postorder.shard": shard,
        "postorder.slot": row.slot,
        "postorder.waited_ms": waited_ns / 1e6,
    }
    if isinstance(row, OrderRow | InvoiceRow):
        attributes["postorder.order_id"] = row.order_id
    if isinstance(row, QuarantineRow):
        attributes["postorder.reason"] = row.reason
    if delivery.trips:
        attributes["postorder.parked"] = delivery.trips
    return attributes


def _ns(seconds: float) -> int:
    return int(max(0.0, seconds) * 1e9)
