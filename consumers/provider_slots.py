"""The providers that the settings name, each behind its limits."""

from collections.abc import Iterable, Mapping

from pipeline.clock import Clock
from pipeline.notifications.pools.adaptive_limit import AdaptiveLimit
from pipeline.notifications.pools.breaker import Breaker
from pipeline.notifications.pools.provider_slot import ProviderSlot, Sender
from pipeline.notifications.pools.provider_slots import ProviderSlots
from pipeline.notifications.pools.rate_gate import RateGate, RecipientRates
from pipeline.notifications.pools.retry_budget import RetryBudget
from pipeline.notifications.providers.smtp import SmtpProvider
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.observability.metrics import Metrics
from pipeline.settings import EmailSettings, PoolSettings, Settings, SlotSettings, SmsSettings
from pipeline.storage.outbox import Channel


def sms_sections(settings: Settings) -> dict[str, SmsSettings]:
    """Return the sections of SMS providers that are there, by the name of their slot."""
    second = settings.sms_second
    return {"twilio": settings.sms} | ({} if second is None else {"twilio_second": second})


def email_sections(settings: Settings) -> dict[str, EmailSettings]:
    """Return the sections of relays that are there, by the name of their slot."""
    second = settings.email_second
    return {"smtp": settings.email} | ({} if second is None else {"smtp_second": second})


def sms_providers(settings: Settings) -> dict[str, TwilioProvider]:
    """Return the SMS providers, by the name of their slot."""
    return {name: TwilioProvider(section, name=name) for name, section in sms_sections(settings).items()}


def email_providers(settings: Settings, clock: Clock) -> dict[str, SmtpProvider]:
    """Return the relays, by the name of their slot.

    A mail has the same Message-ID through each of them: it may go out by a second one when nobody knows what
    the first has done with it.
    """
    shop = settings.notifications.public_name
    domain = settings.email.from_address.rpartition("@")[2]
    return {
        name: SmtpProvider(section, sender_name=shop, clock=clock, name=name, id_domain=domain)
        for name, section in email_sections(settings).items()
    }


class SlotMaker:
    """Puts providers behind what the settings say of them. One per process: senders' limits are shared."""

    def __init__(self, pools: PoolSettings, metrics: Metrics, clock: Clock) -> None:
        self._pools = pools
        self._metrics = metrics
        self._clock = clock
        self._senders: dict[str, RateGate] = {}

    def sms(self, sections: dict[str, SmsSettings], providers: Mapping[str, Sender]) -> ProviderSlots:
        """Return the slots of SMS."""
        slots = [
            self._slot(providers[name], section, sender=section.messaging_service_sid or section.from_number)
            for name, section in sections.items()
        ]
        return self._channel(Channel.SMS, slots, self._pools.sms_per_recipient_minute)

    def email(self, sections: dict[str, EmailSettings], providers: Mapping[str, Sender]) -> ProviderSlots:
        """Return the slots of e-mail."""
        slots = [
            self._slot(providers[name], section, sender=section.from_address)
            for name, section in sections.items()
        ]
        return self._channel(Channel.EMAIL, slots, self._pools.email_per_recipient_minute)

    def _channel(
        self, channel: Channel, slots: Iterable[ProviderSlot], per_recipient_minute: float
    ) -> ProviderSlots:
        pools = self._pools
        return ProviderSlots(
            channel,
            tuple(slots),
            recipients=RecipientRates(
                per_recipient_minute,
                recipients_max=pools.recipients_max,
                wait_max_s=pools.wait_max_s,
                clock=self._clock,
            ),
            budget=RetryBudget(
                share=pools.retry_share, least=pools.retries_per_minute_min, now=self._clock.monotonic()
            ),
            metrics=self._metrics,
            clock=self._clock,
        )

    def _slot(self, provider: Sender, section: SlotSettings, *, sender: str) -> ProviderSlot:
        pools = self._pools
        return ProviderSlot(
            provider,
            weight=section.weight,
            limit=AdaptiveLimit(
                section.concurrency_min,
                section.concurrency,
                rise=pools.latency_rise,
                tolerance_s=pools.latency_tolerance_ms / 1000,
            ),
            breaker=Breaker(pools, self._clock.monotonic()),
            gates=self._gates(section, sender),
            wait_max_s=pools.wait_max_s,
            metrics=self._metrics,
            clock=self._clock,
        )

    def _gates(self, section: SlotSettings, sender: str) -> tuple[RateGate, ...]:
        gates = [self._gate(section.rate_per_s)] if section.rate_per_s else []
        if section.sender_rate_per_s:
            # Of two sections with the same sender, the first to be read says its rate.
            gates.append(self._senders.setdefault(sender, self._gate(section.sender_rate_per_s)))
        return tuple(gates)

    def _gate(self, rate_per_s: float) -> RateGate:
        return RateGate(rate_per_s, wait_max_s=self._pools.wait_max_s, clock=self._clock)
