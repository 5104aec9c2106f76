"""What becomes of one claimed message: compose, check, send, and put the answer into a receipt."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import (
    DocumentError,
    HeldBackError,
    LeaseEndedError,
    OutcomeUnknownError,
    PostorderError,
    ProviderError,
    RecipientRefusedError,
    ThrottledError,
)
from pipeline.notifications.provider import Accepted
from pipeline.observability.correlation import correlation_id
from pipeline.storage.outbox import Claim, Kind, Receipt, State

log = structlog.get_logger(__name__)


class Dispatcher:
    """Sends the messages of one channel: Sms or Email, which is all the same here.

    `compose` makes a claim's message; `check` raises RecipientRefusedError or ThrottledError when a rule
    forbids sending it, or forbids it now; `send` submits it, given which attempt this is; `leave_out` takes
    an invoice out of a mail. Each raises nothing but errors of pipeline/errors.py. `settle` learns what
    became of each message, and raises nothing.
    """

    def __init__(
        self,
        *,
        compose: Callable[[Claim], Awaitable[Any]],
        check: Callable[[Claim, Any], Awaitable[None]],
        send: Callable[[Any, int], Awaitable[Accepted]],
        leave_out: Callable[[Claim, str], Awaitable[None]],
        settle: Callable[[Claim, Receipt], Awaitable[None]],
        retry: Backoff,
        attempts_max: int,
        clock: Clock,
    ) -> None:
        self._compose = compose
        self._check = check
        self._send = send
        self._leave_out = leave_out
        self._settle = settle
        self._retry = retry
        self._attempts_max = attempts_max
        self._clock = clock

    async def dispatch(self, claim: Claim) -> Receipt:
        """Send a message once and return its receipt. Raises nothing but cancellation."""
        receipt = await self._dispatched(claim)
        await self._settle(claim, receipt)
        return receipt

    async def _dispatched(self, claim: Claim) -> Receipt:
        if claim.is_expired:
            return self._receipt(claim, State.EXPIRED, reason="expired")
        try:
            message = await self._compose(claim)
            await self._check(claim, message)
            accepted = await self._send(message, claim.attempt)
        except (HeldBackError, LeaseEndedError) as error:  # counted where they are raised, and come in crowds
            return self._untried(claim, error)
        except PostorderError as error:
            receipt = await self._failure(claim, error)
            log.warning(
                "notification.not_accepted",
                **_ids(claim),
                kind=claim.kind,
                error=str(error),
                state=receipt.state,
                attempt=claim.attempt,
            )
            return receipt
        except Exception as error:  # a defect of ours: the message may be out, so it must not be sent again
            log.exception("notification.crashed", **_ids(claim))
            return self._receipt(claim, State.UNKNOWN, reason=f"crash:{type(error).__name__}")
        return Receipt(
            claim.slot,
            claim.effect_id,
            claim.claim_id,
            State.ACCEPTED,
            provider=accepted.provider,
            provider_id=accepted.provider_id,
            accepted_at=self._clock.now(),
        )

    async def _failure(self, claim: Claim, error: PostorderError) -> Receipt:
        reason = error.code if isinstance(error, ProviderError) else "document"
        match error:
            case RecipientRefusedError():
                return self._receipt(claim, State.SUPPRESSED, reason=reason)
            case OutcomeUnknownError():
                return self._receipt(claim, State.UNKNOWN, reason=reason)
            case ThrottledError():
                return self._later(claim, error, reason)  # as long as the message is of use
            case DocumentError() if error.retryable and claim.attempt < self._attempts_max:
                return self._later(claim, error, reason)
            case DocumentError() if claim.kind is Kind.ORDER_EMAIL or len(claim.invoices) > 1:
                return await self._without_invoice(claim, error)
        return self._receipt(claim, State.FAILED, reason=reason)

    async def _without_invoice(self, claim: Claim, error: DocumentError) -> Receipt:
        """Have a mail go without an invoice that cannot be had, instead of not at all."""
        try:
            await self._leave_out(claim, error.invoice_id)
        except PostorderError as failure:
            log.warning("notification.invoice_stays", **_ids(claim), error=str(failure))
            return self._later(claim, error, "document")
        return self._receipt(claim, State.PENDING, reason="document", retry_in_s=0.0)

    def _untried(self, claim: Claim, error: ProviderError) -> Receipt:
        """Give a claim back under which nobody was called."""
        wait_s = None
        if isinstance(error, HeldBackError):
            wait_s = self._bounded_s(claim, (error.retry_after_s or 0.0) + self._retry.delay_s(1))
        receipt = self._receipt(claim, State.PENDING, reason=error.code, retry_in_s=wait_s)
        return receipt._replace(is_untried=True)

    def _later(self, claim: Claim, error: PostorderError, reason: str) -> Receipt:
        asked_s = error.retry_after_s if isinstance(error, ThrottledError) else None
        # Never sooner than asked, and jittered on top, so that a crowd does not come back at once.
        delay_s = (asked_s or 0.0) + self._retry.delay_s(claim.attempt)
        return self._receipt(claim, State.PENDING, reason=reason, retry_in_s=self._bounded_s(claim, delay_s))

    def _bounded_s(self, claim: Claim, delay_s: float) -> float:
        """Bound a wait by the message's use: it ends as expired then, and not when the provider is back."""
        return max(0.0, min(delay_s, claim.useful_until - self._clock.monotonic()))

    @staticmethod
    def _receipt(claim: Claim, state: State, *, reason: str, retry_in_s: float | None = None) -> Receipt:
        return Receipt(
            claim.slot, claim.effect_id, claim.claim_id, state, reason=reason, retry_in_s=retry_in_s
        )


def _ids(claim: Claim) -> dict[str, str]:
    """Return what a log line calls a message by."""
    return {"effect_id": claim.effect_id.hex, "correlation_id": correlation_id(claim.order_id)}
