"""Traces from end to end: a running pipeline sends spans to a real OTLP receiver.

From the headers of the event to the provider's call and its callback, across the outbox, in one trace.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from commands import postorder
from flow import Flow
from otlp_receiver import OtlpReceiver, otlp_receiver, values
from public_site import SECRET
from real_stack import Bench, invoice_event, order_event

from pipeline.observability.correlation import correlation_id
from pipeline.observability.tracing.export import LAST_S
from pipeline.storage.rows import OwedTrace, Trigger
from stack.ports import HOST, choose_port

pytestmark = pytest.mark.integration

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ON, OFF = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
PERSONAL = ("ada example", "kanarek", "4155550123", "@example.com", "blue train")


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with otlp_receiver() as opened:
        yield opened


def tracing(receiver: OtlpReceiver, **more: str) -> dict[str, str]:
    return {
        "traces_endpoint": receiver.endpoint,
        "traces_sample_ratio": "0",
        "traces_interval_s": "0.1",
        "notifications_grace_window_s": "0",
        **more,
    }


def names(receiver: OtlpReceiver) -> set[str]:
    return {span.name for span in receiver.spans}


async def test_a_trace_goes_from_the_event_to_the_providers_word(
    bench: Bench, receiver: OtlpReceiver, run_pipeline, stack_folder
) -> None:
    port = choose_port("public", set())
    public = {"public_port": str(port), "public_base_url": f"http://{HOST}:{port}", "public_secret": SECRET}
    await bench.twilio("behaviour", {"delivery": {"delay_ms": 10}})
    with run_pipeline(**tracing(receiver, **public)) as process:
        state = {"traceparent": ON, "tracestate": "vendor=1", "x-customer": "Zdenka Kanarek"}
        await bench.publish(order_event("o-1"), headers=state)
        await bench.publish(order_event("o-2"), headers={"traceparent": OFF})
        await bench.publish(order_event("o-3"), headers={"traceparent": "00-Kanarek"})
        await bench.publish(order_event("o-4"))
        wanted = {"status delivered", "call twilio", "call smtp", "write batch"}
        await receiver.until(lambda seen: wanted <= names(seen))
        await bench.until_quiet(4)
    assert process.exit_status == 0
    check_tree(receiver)
    assert receiver.resource["service.name"] == "postorder"
    raw = b"\n".join(receiver.raw).lower()
    assert [word for word in PERSONAL if word.encode() in raw] == []
    assert "traceparent" not in str(await bench.sms()), "a provider is told nothing of traces"
    told = postorder("timeline", "o-1", "--json", "--config", str(stack_folder / "postorder.toml"))
    shown = orjson.loads(told.stdout)
    assert shown["correlation_id"] == correlation_id("o-1")
    assert [one["detail"] for one in shown["entries"] if one["what"] == "owed"] == [f"trace {TRACE}"] * 2


def check_tree(receiver: OtlpReceiver) -> None:
    """Everything of o-1 is in upstream's trace; of the others there is nothing."""
    (event,) = receiver.named("process order.processed")
    (batch,) = receiver.named("write batch")
    ours = [span for span in receiver.spans if span is not batch]
    assert {span.trace_id.hex() for span in ours} == {TRACE}
    assert {span.trace_state for span in ours} == {"vendor=1"}
    assert event.parent_span_id.hex() == SPAN
    assert [link.span_id for link in batch.links] == [event.span_id]
    for kind, provider in (("order_sms", "twilio"), ("order_email", "smtp")):
        (attempt,) = receiver.named(f"send {kind}")
        (call,) = receiver.named(f"call {provider}")
        assert (attempt.parent_span_id, call.parent_span_id) == (event.span_id, attempt.span_id)
        assert event.end_time_unix_nano <= attempt.end_time_unix_nano
        assert values(attempt)["postorder.state"] == "accepted"
    assert {span.parent_span_id for span in receiver.named("status delivered")} == {event.span_id}
    found = {values(span).get("postorder.correlation_id", correlation_id("o-1")) for span in ours}
    assert found == {correlation_id("o-1")}


async def test_without_a_trace_of_upstreams_an_order_has_one_of_its_own(
    bench: Bench, receiver: OtlpReceiver, run_pipeline
) -> None:
    with run_pipeline(**tracing(receiver, traces_sample_ratio="1")):
        await bench.publish(order_event("o-1"))
        await receiver.until(lambda seen: {"call twilio", "call smtp"} <= names(seen))
        await bench.publish(invoice_event("o-1"))
        await receiver.until(lambda seen: "send invoice_email" in names(seen))
        await bench.until_quiet(2)
    ours = [span for span in receiver.spans if span.name != "write batch"]
    assert {span.trace_id.hex() for span in ours} == {correlation_id("o-1")}
    (invoice,) = receiver.named("process invoice.generated")
    (mail,) = receiver.named("send invoice_email")
    assert mail.parent_span_id == invoice.span_id


async def test_a_receiver_that_is_away_holds_nothing_up(bench: Bench, run_pipeline) -> None:
    with run_pipeline(
        traces_endpoint="http://127.0.0.1:9/v1/traces",
        traces_sample_ratio="1",
        traces_timeout_s="0.5",
        notifications_grace_window_s="0",
    ) as process:
        await bench.publish(*(order_event(f"o-{number}") for number in range(20)))
        status = await bench.until_quiet(20)
    assert process.exit_status == 0
    assert status.accounting.balances
    assert process.log.read_text().count("traces.not_exported") <= 1


async def test_a_receiver_that_never_answers_takes_no_time_from_the_drain(
    bench: Bench, receiver: OtlpReceiver, run_pipeline
) -> None:
    receiver.faults = ["hang"] * 100
    limits = {"traces_timeout_s": "60", "ops_drain_timeout_s": "8"}
    with run_pipeline(**tracing(receiver, traces_sample_ratio="1") | limits) as process:
        await bench.publish(*(order_event(f"o-{number}") for number in range(20)))
        await bench.until_quiet(20)
    log = process.log.read_text()
    assert (process.exit_status, "drain.finished" in log, receiver.spans) == (0, True, [])
    stopping, stopped = (at(log, event) for event in ("pipeline.stopping", "pipeline.stopped"))
    assert stopped - stopping < LAST_S + 5, "it took the whole time-out of the drain, or of a request"


def at(log: str, event: str) -> float:
    """Return when an event was logged first, in seconds since 1970."""
    line = next(line for line in log.splitlines() if f'"{event}"' in line)
    return datetime.fromisoformat(orjson.loads(line)["timestamp"]).timestamp()


async def test_only_messages_that_a_batch_owes_get_its_trace(bench: Bench) -> None:
    """A duplicate's trace must not overwrite what stands beside a message, nor wait for who holds its row."""
    flow, context = Flow(bench), f"00-{'1' * 32}-{'2' * 16}-01"
    row: Any = flow.row(orjson.dumps(order_event("o-1")))
    shard = bench.cluster.router.place("o-1").shard

    async def write(text: str) -> None:
        owed = [OwedTrace(row.slot, row.sms_id, text), OwedTrace(row.slot, row.email_id, text)]
        await bench.cluster[shard].writer.write([row], Trigger.SIZE, lambda *_: None, None, owed)

    await write(context)
    await write(context.replace("1", "3"))
    found = await bench.rows("SELECT effect_id, trace_context FROM outbox")
    assert {one["effect_id"] for one in found} == {UUID(bytes=row.sms_id), UUID(bytes=row.email_id)}
    assert {one["trace_context"] for one in found} == {context}
