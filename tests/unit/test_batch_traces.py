"""Which events of a batch are traced, what is kept beside their messages, and the spans of it all."""

import time
from hashlib import sha256
from typing import Any
from uuid import uuid4

import orjson
import pytest
from real_stack import invoice_event, order_event
from virtual_clock import VirtualClock

from consumers.lean.wire import property_bytes, read_properties
from pipeline.errors import EventError
from pipeline.events import Reason
from pipeline.ingest.batch_traces import LINKS_MAX, BatchTraces
from pipeline.ingest.batcher import Batch, Item
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.entries import EntryBuilder
from pipeline.observability.correlation import correlation_id
from pipeline.observability.registry import MetricRegistry
from pipeline.observability.trace_metrics import TraceMetrics
from pipeline.observability.tracing.context import from_text
from pipeline.observability.tracing.sampler import Sampler
from pipeline.observability.tracing.span import Span, SpanKind
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.rows import BatchCounts, Trigger

TRACE, SPAN = "1" * 32, "2" * 16
ON, OFF = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
DONE = BatchCounts(1, 0, 0, 0, 0)
ENTRIES = EntryBuilder(
    Router(ShardMap(1, ("a",) * 4096)), document_bytes_max=10_000, document_hosts=(), allow_http=False
)


def item(event: dict[str, Any], traceparent: str | None = None) -> Item:
    body = orjson.dumps(event)
    headers = {"traceparent": traceparent, "tracestate": "a=1"} if traceparent else {}
    raw = property_bytes(content_type="application/cloudevents+json", headers=headers)
    delivery = Delivery(
        body, "order-processed", "orders", "order.processed", "application/cloudevents+json", None, raw,
        read_properties, print, 0, time.monotonic() - 0.5,
    )  # fmt: skip
    return Item(ENTRIES.of_event(Decoder(message_bytes_max=100_000).decode(delivery))[1], delivery)


class Traces:
    """A BatchTraces, and what it makes."""

    def __init__(self, ratio: float, per_s_max: int = 1000) -> None:
        self.spans: list[Span] = []
        self.clock = VirtualClock()
        self.metrics = TraceMetrics(MetricRegistry())
        sampler = Sampler(ratio=ratio, per_s_max=per_s_max, metrics=self.metrics, clock=self.clock)
        self.batches = BatchTraces(sampler, self.spans.append)

    def traced(self, *items: Item) -> int:
        begun = self.batches.begin(items)
        return len(begun.events) if begun else 0

    def write(self, *items: Item, outcome: str = "durable", counts: BatchCounts | None = DONE) -> list[str]:
        """Have a batch written; return what is kept beside its messages."""
        begun = self.batches.begin(items)
        assert begun is not None
        self.batches.end(begun, "a", Batch(list(items), Trigger.SIZE), outcome, counts)
        return [owed.context for owed in begun.owed]


def orders(count: int) -> list[Item]:
    return [item(order_event(str(uuid4()))) for _ in range(count)]


def test_upstreams_decision_counts() -> None:
    for ratio in (0.0, 1.0):
        traces = Traces(ratio)
        assert traces.traced(item(order_event("o-1"), ON)) == 1
        assert traces.traced(item(order_event("o-1"), OFF)) == 0
        malformed = item(order_event("o-1"), ON.replace("-", "_"))
        assert traces.traced(malformed) == int(ratio)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_of_the_others_a_share_is_traced(ratio: float) -> None:
    count = 1000
    assert Traces(ratio, 10_000).traced(*orders(count)) == pytest.approx(ratio * count, abs=75)


def test_an_order_and_its_invoice_are_both_in_the_orders_trace_or_both_in_none() -> None:
    traces = Traces(0.5, 10_000)
    seen = set()
    for number in range(40):
        pair = item(order_event(f"o-{number}")), item(invoice_event(f"o-{number}"))
        seen.add(count := traces.traced(*pair))
        if count:
            first, second = traces.batches.begin(pair).events
            assert first.context.trace_id == second.context.trace_id
            assert first.context.trace_id.hex() == correlation_id(f"o-{number}")
            assert first.context.span_id != second.context.span_id
    assert seen == {0, 2}


def test_no_more_are_traced_in_a_second_than_may_be() -> None:
    traces = Traces(1.0, per_s_max=3)
    assert traces.traced(*orders(5)) == 3
    assert traces.traced(item(order_event("o-1"), ON)) == 0
    assert traces.metrics.held_back._value.get() == 3
    traces.clock.time += 1
    assert traces.traced(*orders(5)) == 3


def test_the_spans_of_a_batch() -> None:
    traces = Traces(0.0)
    other = item(order_event("o-2"))
    kept = traces.write(item(order_event("o-1"), ON), other)
    batch, event = traces.spans
    assert (event.name, event.kind) == ("process order.processed", SpanKind.CONSUMER)
    assert (event.context.trace_id.hex(), event.parent_id.hex(), event.is_remote) == (TRACE, SPAN, True)
    assert event.context.state == "a=1"
    assert [link.span_id for link in event.links] == [batch.context.span_id]
    assert batch.links == (event.context,)
    assert batch.context.trace_id != event.context.trace_id
    assert batch.attributes["messaging.batch.message_count"] == 2
    assert event.attributes["postorder.correlation_id"] == correlation_id("o-1")
    assert 0.4e9 < event.end_ns - event.start_ns < 5e9, "since the delivery"
    assert batch.start_ns > event.start_ns + 0.4e9
    assert (batch.error, event.error) == (None, None)
    assert [from_text(text) for text in kept] == [event.context] * 2, "the SMS and the mail"


def test_a_batch_that_was_not_written_says_so() -> None:
    traces = Traces(1.0)
    traces.write(item(order_event("o-1")), outcome="shard_away", counts=None)
    assert [span.error for span in traces.spans] == ["shard_away"] * 2
    assert traces.spans[1].parent_id == b"", "it begins its trace"


def test_links_are_bounded_and_those_left_out_are_counted() -> None:
    traces = Traces(1.0)
    traces.write(*orders(LINKS_MAX + 6))
    assert (len(traces.spans[0].links), traces.spans[0].links_dropped) == (LINKS_MAX, 6)
    assert len(traces.spans) == 1 + LINKS_MAX + 6


def test_an_invoice_keeps_its_trace_for_the_mail_it_may_get() -> None:
    begun = Traces(1.0).batches.begin([item(invoice_event("o-1", invoice_id="i-1"))])
    assert begun is not None
    digest = sha256(b"o-1 i-1").digest()
    assert [owed.effect_id for owed in begun.owed] == [digest[:15] + b"\x03"]


def test_what_goes_to_quarantine_is_traced_by_its_own_id() -> None:
    whole = item(order_event("o-1"))
    row = ENTRIES.of_bad_event(EventError(Reason.INVALID_DATA, "bad"), whole.delivery)[1]
    traces = Traces(1.0)
    assert traces.write(Item(row, whole.delivery)) == []
    assert traces.spans[1].context.trace_id == row.quarantine_id
    assert traces.spans[1].attributes["postorder.reason"] == "invalid_data"
