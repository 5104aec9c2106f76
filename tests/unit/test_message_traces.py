"""Spans of messages: a try under its event's span, the provider's call under the try, the provider's word."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from claims import claim

from pipeline.errors import OutcomeUnknownError
from pipeline.notifications.message_traces import TracedDispatcher, TracedSender, trace_statuses
from pipeline.notifications.provider import Accepted
from pipeline.observability.correlation import correlation_id
from pipeline.observability.tracing.context import TraceContext
from pipeline.observability.tracing.span import Span, SpanKind
from pipeline.storage.effects import ProviderStatus, TracedStatus
from pipeline.storage.outbox import Claim, Receipt, State

PARENT = TraceContext(b"\x01" * 16, b"\x02" * 8, state="a=1")


class Provider:
    """Accepts, or raises what it was given."""

    name = "twilio"

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    async def send(self, message: Any) -> Accepted:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return Accepted(provider=self.name, provider_id=f"SM{message}")


class Sending:
    """A dispatcher that does nothing but send through a traced provider."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.spans: list[Span] = []
        self._sender = TracedSender(Provider(error), self.spans.append)
        dispatcher: Any = self
        self.traced = TracedDispatcher(dispatcher, self.spans.append)

    async def dispatch(self, claim: Claim) -> Receipt:
        try:
            accepted = await self._sender.send("1")
        except OutcomeUnknownError as error:
            return Receipt(claim.slot, claim.effect_id, claim.claim_id, State.UNKNOWN, reason=error.code)
        return Receipt(
            claim.slot,
            claim.effect_id,
            claim.claim_id,
            State.ACCEPTED,
            accepted.provider,
            accepted.provider_id,
        )


async def test_a_message_that_is_not_traced_has_no_spans() -> None:
    sending = Sending()
    for context in (None, "not a context"):
        assert (await sending.traced.dispatch(claim(trace_context=context))).state is State.ACCEPTED
    assert sending.spans == []


async def test_a_try_and_its_call() -> None:
    sending = Sending()
    started_ns = time.time_ns()
    await sending.traced.dispatch(claim(trace_context=PARENT.text, age_s=2.0))
    call, attempt = sending.spans
    assert (attempt.name, attempt.parent_id, attempt.is_remote) == ("send order_sms", PARENT.span_id, True)
    assert (call.name, call.parent_id, call.kind) == ("call twilio", attempt.context.span_id, SpanKind.CLIENT)
    assert {one.context.trace_id for one in sending.spans} == {PARENT.trace_id}
    assert {one.context.state for one in sending.spans} == {"a=1"}
    assert started_ns <= attempt.start_ns <= call.start_ns <= call.end_ns <= attempt.end_ns
    assert (attempt.error, call.error) == (None, None)
    assert attempt.attributes["postorder.correlation_id"] == correlation_id("o-1")
    assert attempt.attributes["postorder.state"] == "accepted"
    assert attempt.attributes["postorder.provider"] == "twilio"
    assert attempt.attributes["postorder.owed_for_ms"] == 2000.0


async def test_tries_at_the_same_time_are_kept_apart() -> None:
    sending = Sending()
    contexts = [TraceContext(bytes([number]) * 16, b"\x09" * 8) for number in range(1, 9)]
    await asyncio.gather(
        *(sending.traced.dispatch(claim(trace_context=one.text)) for one in contexts),
        *(sending.traced.dispatch(claim()) for _ in contexts),
    )
    assert len(sending.spans) == 16
    by_id = {one.context.span_id: one for one in sending.spans}
    calls = [one for one in sending.spans if one.name == "call twilio"]
    assert all(by_id[one.parent_id].context.trace_id == one.context.trace_id for one in calls)


async def test_after_a_traced_message_a_worker_sends_one_that_is_not() -> None:
    sending = Sending()
    await sending.traced.dispatch(claim(trace_context=PARENT.text))
    await sending.traced.dispatch(claim())
    assert [one.name for one in sending.spans] == ["call twilio", "send order_sms"]


async def test_an_unknown_outcome_is_an_error_by_its_code() -> None:
    sending = Sending(OutcomeUnknownError("timeout", "no answer"))
    await sending.traced.dispatch(claim(trace_context=PARENT.text))
    assert [one.error for one in sending.spans] == ["timeout", "timeout"]
    assert sending.spans[1].attributes["postorder.state"] == "unknown"


async def test_a_try_that_is_cut_off_leaves_its_spans() -> None:
    sending = Sending(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await sending.traced.dispatch(claim(trace_context=PARENT.text))
    assert [one.error for one in sending.spans] == ["interrupted", "interrupted"]


def test_a_providers_word() -> None:
    spans: list[Span] = []
    word = ProviderStatus(
        1, UUID(int=1), "twilio", "SM1", "undelivered", "30003", datetime(2026, 1, 1, tzinfo=UTC)
    )
    traced = [TracedStatus(word, "applied", PARENT.text), TracedStatus(word, "applied", "bad")]
    trace_statuses(traced, time.time_ns(), spans.append)
    (made,) = spans
    assert (made.name, made.parent_id, made.kind) == ("status undelivered", PARENT.span_id, SpanKind.SERVER)
    assert made.attributes["postorder.reason"] == "30003"
    assert "SM1" not in msgspec.json.encode(made.attributes).decode()
