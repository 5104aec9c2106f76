"""What to make of a message of unknown outcome: the providers' evidence first, then its kind's policy."""

from collections.abc import Mapping
from typing import Final

import structlog

from pipeline.notifications.evidence import Ask
from pipeline.notifications.provider import CannotTell, Evidence, Found, NotFound
from pipeline.observability.correlation import correlation_id
from pipeline.observability.message_metrics import MessageMetrics
from pipeline.settings import EffectSettings
from pipeline.settings.effects import Policy
from pipeline.storage.effects import WORDS, Conclusion, Unknown
from pipeline.storage.outbox import Channel, Kind, State

log = structlog.get_logger(__name__)

_ASK_CEILING_S: Final = 3600.0


class Inquiry:
    """Asks about unknown messages. A channel without an `ask` has nobody who could tell.

    A try that the providers know nothing of does not count; one that may have gone out does, so that
    prefer-duplicate ends after `attempts_max` tries: then it is a person's.
    """

    def __init__(
        self,
        settings: EffectSettings,
        ask: Mapping[Channel, Ask],
        *,
        attempts_max: int,
        metrics: MessageMetrics,
    ) -> None:
        self.settings = settings
        self._ask = ask
        self._attempts_max = attempts_max
        self._metrics = metrics
        self._policies: dict[Kind, Policy] = {
            Kind.ORDER_SMS: settings.order_sms_policy,
            Kind.ORDER_EMAIL: settings.order_email_policy,
            Kind.INVOICE_EMAIL: settings.invoice_email_policy,
        }

    async def conclude(self, unknown: Unknown) -> Conclusion:
        """Ask about a message and say what to record. Raises nothing but cancellation."""
        evidence = await self._evidence(unknown)
        self._metrics.inquiries.labels(unknown.claim.channel, _outcome(evidence)).inc()
        match evidence:
            case Found():
                return _known(unknown, evidence)
            case NotFound():
                return _conclusion(unknown, State.PENDING, "not_found", reason="not_found")
            case CannotTell():
                return self._unheard(unknown, evidence)

    async def _evidence(self, unknown: Unknown) -> Evidence:
        ask = self._ask.get(unknown.claim.channel)
        if ask is None:
            return CannotTell("nobody_to_ask", is_final=True)
        try:
            return await ask(unknown.claim, unknown.since)
        except Exception as error:  # a defect of ours must not keep the others from being asked about
            log.exception(
                "inquiry.crashed",
                effect_id=unknown.claim.effect_id.hex,
                correlation_id=correlation_id(unknown.claim.order_id),
            )
            return CannotTell(f"crash:{type(error).__name__}", is_final=False)

    def _unheard(self, unknown: Unknown, evidence: CannotTell) -> Conclusion:
        settings = self.settings
        detail = f"cannot_tell:{evidence.why}"
        if not evidence.is_final and unknown.asked + 1 < settings.ask_max:
            again_in_s = min(_ASK_CEILING_S, settings.ask_interval_s * 2.0**unknown.asked)
            return _conclusion(unknown, State.UNKNOWN, detail)._replace(again_in_s=again_in_s)
        policy = self._policies[unknown.claim.kind]
        if policy == "prefer-miss":
            return _conclusion(unknown, State.ABANDONED, f"{detail} {policy}", reason="prefer_miss")
        if policy == "prefer-duplicate" and unknown.claim.attempt < self._attempts_max:
            again = _conclusion(unknown, State.PENDING, f"{detail} {policy}", reason="prefer_duplicate")
            return again._replace(is_counted=True)
        return _conclusion(unknown, State.UNKNOWN, f"{detail} person")


def _outcome(evidence: Evidence) -> str:
    match evidence:
        case Found():
            return "found"
        case NotFound():
            return "not_found"
        case CannotTell():
            return "cannot_tell"


def _known(unknown: Unknown, found: Found) -> Conclusion:
    word = (found.status or "").lower()
    state = WORDS[word][1] if word in WORDS else State.ACCEPTED
    detail = " ".join(filter(None, ("found", word, found.provider_id)))
    reason = word if state is State.UNDELIVERED else None
    return _conclusion(unknown, state, detail, reason=reason)._replace(
        provider=found.provider, provider_id=found.provider_id, status=word if word in WORDS else None
    )


def _conclusion(unknown: Unknown, state: State, detail: str, *, reason: str | None = None) -> Conclusion:
    claim = unknown.claim
    return Conclusion(claim.slot, claim.effect_id, claim.claim_id, state, detail, reason=reason)
