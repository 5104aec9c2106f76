"""Spans on their way to a receiver: a real one over HTTP, and what happens when it is slow, full or away."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest
from otlp_receiver import OtlpReceiver, otlp_receiver, values

from consumers.allocator.run import KILL_AFTER_S
from pipeline.lifecycle import Tasks
from pipeline.observability.registry import MetricRegistry
from pipeline.observability.trace_metrics import TraceMetrics
from pipeline.observability.tracing import export as export_module
from pipeline.observability.tracing.context import TraceContext
from pipeline.observability.tracing.export import SpanExport
from pipeline.observability.tracing.span import Span, SpanKind, new_child, new_trace
from pipeline.settings import TraceSettings

RESOURCE = {"service.name": "postorder", "process.pid": 7}


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with otlp_receiver() as opened:
        yield opened


class Sending:
    """A SpanExport with its metrics."""

    def __init__(self, endpoint: str, **settings: Any) -> None:
        self.registry = MetricRegistry()
        self.crashes: list[BaseException] = []
        self.export = SpanExport(
            TraceSettings(**{"endpoint": endpoint, "interval_s": 0.02, "timeout_s": 2.0, **settings}),
            RESOURCE,
            metrics=TraceMetrics(self.registry),
            tasks=Tasks(lambda _name, error: self.crashes.append(error)),
        )

    async def __aenter__(self) -> Self:
        await self.export.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.export.stop()
        assert self.crashes == []

    def put(self, count: int) -> None:
        for _ in range(count):
            self.export.put(span())

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"postorder_spans_{name}", labels) or 0.0

    def dropped(self, reason: str) -> float:
        return self.count("dropped_total", reason=reason)


def span(**changes: Any) -> Span:
    given = {"name": "x", "kind": SpanKind.INTERNAL, "context": new_trace(), "start_ns": 1, "end_ns": 2}
    return Span(**{**given, **changes})


async def test_a_span_arrives_as_it_was_made(receiver: OtlpReceiver) -> None:
    parent = TraceContext(b"\x01" * 16, b"\x02" * 8, state="a=1")
    link = new_trace()
    made = span(
        name="send order_sms",
        kind=SpanKind.CLIENT,
        context=new_child(parent),
        parent_id=parent.span_id,
        is_remote=True,
        start_ns=1_700_000_000_000_000_000,
        end_ns=1_700_000_000_250_000_000,
        attributes={"text": "t", "number": 3, "part": 0.5, "yes": True},
        links=(link,),
        links_dropped=4,
        error="21610",
    )
    async with Sending(receiver.endpoint, authorization="Bearer token") as sending:
        sending.export.put(made)
        await receiver.until(lambda seen: bool(seen.spans))
        await sending.export.drain()
    (got,) = receiver.spans
    assert (got.trace_id, got.span_id, got.parent_span_id) == (
        b"\x01" * 16,
        made.context.span_id,
        b"\x02" * 8,
    )
    assert (got.trace_state, got.name, got.kind) == ("a=1", "send order_sms", got.SPAN_KIND_CLIENT)
    assert (got.start_time_unix_nano, got.end_time_unix_nano) == (made.start_ns, made.end_ns)
    assert values(got) == {"text": "t", "number": 3, "part": 0.5, "yes": True}
    assert [(one.trace_id, one.span_id) for one in got.links] == [(link.trace_id, link.span_id)]
    assert got.dropped_links_count == 4
    assert (got.status.code, got.status.message) == (got.status.STATUS_CODE_ERROR, "21610")
    assert got.flags == 0x301
    assert receiver.resource == RESOURCE
    assert receiver.headers[0]["Content-Type"] == "application/x-protobuf"
    assert receiver.headers[0]["Authorization"] == "Bearer token"
    assert sending.count("exported_total") == 1


async def test_spans_go_in_sets(receiver: OtlpReceiver) -> None:
    async with Sending(receiver.endpoint, interval_s=10.0) as sending:
        sending.put(300)
        await receiver.until(lambda seen: len(seen.spans) == 300)
    assert receiver.requests == 3


async def test_a_full_queue_drops_and_counts(receiver: OtlpReceiver) -> None:
    async with Sending(receiver.endpoint, queue_max=10) as sending:
        sending.put(25)
        assert (sending.dropped("queue_full"), sending.count("waiting")) == (15, 10)
        await receiver.until(lambda seen: len(seen.spans) == 10)
        await sending.export.drain()
    assert sending.dropped("ended") == 0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_may_be_tried_again_is(
    receiver: OtlpReceiver, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_RETRY", export_module.Backoff(base_s=0.01, ceiling_s=0.02))
    receiver.faults = [status, status]
    async with Sending(receiver.endpoint) as sending:
        sending.put(3)
        await receiver.until(lambda seen: len(seen.spans) == 3)
        await sending.export.drain()
    assert (receiver.requests, sending.count("exported_total")) == (3, 3)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500])
async def test_what_is_refused_is_not_sent_again(receiver: OtlpReceiver, status: int) -> None:
    receiver.faults = [status]
    async with Sending(receiver.endpoint) as sending:
        sending.put(2)
        await receiver.until(lambda seen: seen.requests == 1)
        sending.put(1)
        await receiver.until(lambda seen: len(seen.spans) == 1)
        await sending.export.drain()
    assert (sending.dropped("refused"), sending.count("exported_total")) == (2, 1)


async def test_what_a_receiver_takes_in_part_is_counted_so(receiver: OtlpReceiver) -> None:
    receiver.rejected = 2
    async with Sending(receiver.endpoint) as sending:
        sending.put(5)
        await receiver.until(lambda seen: len(seen.spans) == 5)
        await sending.export.drain()
    assert (sending.dropped("refused"), sending.count("exported_total")) == (2, 3)


async def test_a_receiver_that_asks_for_time_gets_it(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_RETRY", export_module.Backoff(base_s=0.001, ceiling_s=0.001))
    receiver.faults, receiver.retry_after = [503], "1"
    async with Sending(receiver.endpoint) as sending:
        sending.put(1)
        started = time.monotonic()
        await receiver.until(lambda seen: bool(seen.spans))
        assert time.monotonic() - started > 0.9


async def test_nobody_waits_for_a_receiver_that_hangs(receiver: OtlpReceiver) -> None:
    receiver.faults = ["hang"] * 20
    async with Sending(receiver.endpoint, timeout_s=0.3, queue_max=1000) as sending:
        sending.put(1)
        await asyncio.sleep(0.1)
        started = time.monotonic()
        sending.put(1100)
        await sending.export.drain()
        assert time.monotonic() - started < 1.5, "one time-out, and not one for each set"
    assert sending.dropped("queue_full") == 100
    assert sending.dropped("unreachable") + sending.dropped("ended") == 1001
    assert sending.count("exported_total") == 0


async def test_what_a_hanging_receiver_takes_of_the_end_is_bounded_whatever_its_time_out(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export_module.LAST_S < KILL_AFTER_S, "a supervisor kills who is later"
    monkeypatch.setattr(export_module, "LAST_S", 0.3)
    receiver.faults = ["hang"] * 20
    async with Sending(receiver.endpoint, timeout_s=60.0) as sending:
        sending.put(300)
        started = time.monotonic()
        await sending.export.drain()
        await sending.export.stop()
        assert time.monotonic() - started < 1.5
    assert sending.dropped("ended") == 300


async def test_a_receiver_that_is_away_costs_its_spans_and_no_more() -> None:
    async with Sending("http://127.0.0.1:9/v1/traces") as sending:
        sending.put(4)
        await sending.export.drain()
    assert sending.dropped("unreachable") + sending.dropped("ended") == 4


async def test_what_is_left_is_sent_while_draining(receiver: OtlpReceiver) -> None:
    async with Sending(receiver.endpoint, interval_s=3600.0) as sending:
        sending.put(200)
        await sending.export.drain()
        assert (len(receiver.spans), sending.count("exported_total")) == (200, 200)


async def test_it_can_be_stopped_before_it_was_started_and_twice() -> None:
    sending = Sending("http://127.0.0.1:9/v1/traces")
    await sending.export.stop()
    async with sending:
        pass
    await sending.export.stop()


async def test_a_span_that_cannot_be_encoded_costs_its_set_and_stops_nothing(receiver: OtlpReceiver) -> None:
    async with Sending(receiver.endpoint, interval_s=3600.0) as sending:
        sending.export.put(span(attributes={"text": "half a \ud800 character"}))
        sending.put(200)
        await sending.export.drain()
        assert (sending.dropped("defect"), sending.count("exported_total")) == (128, 73)
