"""Traces of flow two: a span for each try of a traced message, one for the provider's call, one for its word.

    process order.processed          (flow one; another process, seconds or days before)
      └ send order_sms               a try, from the claim to the receipt
          └ call twilio              the request
      └ status delivered             what the provider says later, until that is durable

The parent's context lies beside the message (outbox.trace_context). Providers are told nothing of traces.
Both classes stand in the place of what they wrap, in processes that trace; others have nothing of this.
"""

import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from pipeline.errors import ProviderError
from pipeline.notifications.dispatcher import Dispatcher
from pipeline.notifications.pools.provider_slot import Sender
from pipeline.notifications.provider import Accepted
from pipeline.observability.correlation import correlation_id
from pipeline.observability.tracing.context import TraceContext, from_text
from pipeline.observability.tracing.span import Attribute, Span, SpanKind, new_child
from pipeline.storage.effects import TracedStatus
from pipeline.storage.outbox import Claim, Receipt, State

Put = Callable[[Span], None]

_GOOD = frozenset((State.ACCEPTED, State.SUPPRESSED, State.EXPIRED))
_try_under_way: ContextVar[TraceContext | None] = ContextVar("try_under_way", default=None)


class TracedDispatcher:
    """A Dispatcher that makes a span for each try of a traced message."""

    def __init__(self, dispatcher: Dispatcher, put: Put) -> None:
        self._dispatcher = dispatcher
        self._put = put

    async def dispatch(self, claim: Claim) -> Receipt:
        """Send a message once and return its receipt, as Dispatcher does."""
        parent = from_text(claim.trace_context) if claim.trace_context is not None else None
        if parent is None:
            return await self._dispatcher.dispatch(claim)
        context = new_child(parent)
        start_ns = time.time_ns()
        receipt: Receipt | None = None
        token = _try_under_way.set(context)
        try:
            receipt = await self._dispatcher.dispatch(claim)
        finally:
            _try_under_way.reset(token)
            self._put(
                Span(
                    name=f"send {claim.kind.value}",
                    kind=SpanKind.INTERNAL,
                    context=context,
                    parent_id=parent.span_id,
                    is_remote=True,
                    start_ns=start_ns,
                    end_ns=time.time_ns(),
                    attributes=_attributes(claim, receipt),
                    error=_error(receipt),
                )
            )
        return receipt


class TracedSender:
    """A provider that makes a span for each call of a traced message."""

    def __init__(self, provider: Sender, put: Put) -> None:
        self.name = provider.name
        self._provider = provider
        self._put = put

    def __repr__(self) -> str:
        return f"TracedSender({self._provider!r})"

    async def send(self, message: Any) -> Accepted:
        """Send one message, as the provider does."""
        parent = _try_under_way.get()
        if parent is None:
            return await self._provider.send(message)
        start_ns = time.time_ns()
        attributes: dict[str, Attribute] = {"postorder.provider": self.name}
        error: str | None = "interrupted"
        try:
            accepted = await self._provider.send(message)
            error = None
        except ProviderError as caught:
            error = caught.code
            raise
        finally:
            self._put(
                Span(
                    name=f"call {self.name}",
                    kind=SpanKind.CLIENT,
                    context=new_child(parent),
                    parent_id=parent.span_id,
                    start_ns=start_ns,
                    end_ns=time.time_ns(),
                    attributes=attributes,
                    error=error,
                )
            )
        return accepted


def trace_statuses(traced: Iterable[TracedStatus], start_ns: int, put: Put) -> None:
    """Make a span for each status word of a traced message. `start_ns`: since when it was worked on."""
    end_ns = time.time_ns()
    for word, outcome, text in traced:
        parent = from_text(text)
        if parent is None:
            continue
        attributes: dict[str, Attribute] = {
            "postorder.effect_id": word.effect_id.hex,
            "postorder.provider": word.provider,
            "postorder.status": word.status,
            "postorder.outcome": outcome,
        }
        if word.error_code:
            attributes["postorder.reason"] = word.error_code
        put(
            Span(
                name=f"status {word.status}",
                kind=SpanKind.SERVER,
                context=new_child(parent),
                parent_id=parent.span_id,
                is_remote=True,
                start_ns=start_ns,
                end_ns=end_ns,
                attributes=attributes,
            )
        )


def _attributes(claim: Claim, receipt: Receipt | None) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {
        "postorder.correlation_id": correlation_id(claim.order_id),
        "postorder.effect_id": claim.effect_id.hex,
        "postorder.order_id": claim.order_id,
        "postorder.channel": claim.channel.value,
        "postorder.shard": claim.shard,
        "postorder.slot": claim.slot,
        "postorder.attempt": claim.attempt,
        "postorder.owed_for_ms": claim.age_s * 1000,
    }
    if receipt is not None:
        attributes["postorder.state"] = receipt.state.value
        for name, value in (("provider", receipt.provider), ("reason", receipt.reason)):
            if value is not None:
                attributes[f"postorder.{name}"] = value
    return attributes


def _error(receipt: Receipt | None) -> str | None:
    """Return what a try failed of; None where it did what was to be done."""
    if receipt is None:
        return "interrupted"
    return None if receipt.state in _GOOD else receipt.reason or receipt.state.value
