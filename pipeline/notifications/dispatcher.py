"""What becomes of one claimed message: compose, send, and put the answer into a receipt."""

from collections.abc import Awaitable, Callable

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import (
    DocumentError,
    OutcomeUnknownError,
    PostorderError,
    ProviderError,
    RecipientRefusedError,
    ThrottledError,
)
from pipeline.notifications.provider import Accepted
from pipeline.storage.outbox import Claim, Receipt, State

log = structlog.get_logger(__name__)


class Dispatcher:
    """Sends the messages of one channel. `send` composes and submits a claim's message."""

    def __init__(
        self,
        *,
        send: Callable[[Claim], Awaitable[Accepted]],
        retry: Backoff,
        attempts_max: int,
        clock: Clock,
    ) -> None:
        self._send = send
        self._retry = retry
        self._attempts_max = attempts_max
        self._clock = clock

    async def dispatch(self, claim: Claim) -> Receipt:
        """Send a message once and return its receipt. Raises nothing but cancellation."""
        if claim.is_expired:
            return self._receipt(claim, State.EXPIRED, reason="expired")
        try:
            accepted = await self._send(claim)
        except PostorderError as error:
            return self._failure(claim, error)
        except Exception as error:  # a defect of ours: the message may be out, so it must not be sent again
            log.exception("notification.crashed", effect_id=claim.effect_id.hex)
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

    def _failure(self, claim: Claim, error: PostorderError) -> Receipt:
        reason = error.code if isinstance(error, ProviderError) else "document"
        match error:
            case RecipientRefusedError():
                receipt = self._receipt(claim, State.SUPPRESSED, reason=reason)
            case OutcomeUnknownError():
                receipt = self._receipt(claim, State.UNKNOWN, reason=reason)
            case ThrottledError() | DocumentError() if error.retryable:
                receipt = self._retry_or_fail(claim, error, reason)
            case _:
                receipt = self._receipt(claim, State.FAILED, reason=reason)
        log.warning(
            "notification.not_accepted",
            effect_id=claim.effect_id.hex,
            kind=claim.kind,
            error=str(error),
            state=receipt.state,
            attempt=claim.attempt,
        )
        return receipt

    def _retry_or_fail(self, claim: Claim, error: PostorderError, reason: str) -> Receipt:
        if claim.attempt >= self._attempts_max:
            return self._receipt(claim, State.FAILED, reason=f"attempts_exhausted:{reason}")
        asked_s = error.retry_after_s if isinstance(error, ThrottledError) else None
        # Never sooner than asked, and jittered on top, so that a crowd does not come back at once.
        delay_s = (asked_s or 0.0) + self._retry.delay_s(claim.attempt)
        return self._receipt(claim, State.PENDING, reason=reason, retry_in_s=delay_s)

    @staticmethod
    def _receipt(claim: Claim, state: State, *, reason: str, retry_in_s: float | None = None) -> Receipt:
        return Receipt(
            claim.slot, claim.effect_id, claim.claim_id, state, reason=reason, retry_in_s=retry_in_s
        )
