"""Providers that a test tells what to answer, behind real limits, on a clock that the test turns."""

from bisect import bisect_left
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
from virtual_clock import VirtualClock

from pipeline.notifications.notification import Sms
from pipeline.notifications.pools.adaptive_limit import AdaptiveLimit
from pipeline.notifications.pools.breaker import Breaker
from pipeline.notifications.pools.provider_slot import ProviderSlot
from pipeline.notifications.pools.provider_slots import ProviderSlots
from pipeline.notifications.pools.rate_gate import RateGate, RecipientRates
from pipeline.notifications.pools.retry_budget import RetryBudget
from pipeline.notifications.provider import Accepted
from pipeline.observability.metrics import Metrics
from pipeline.settings import PoolSettings
from pipeline.storage.outbox import Channel

POOLS = PoolSettings()


class ScriptedProvider:
    """Takes `took_s`, then answers what `answer` returns: an error to raise, or None to accept."""

    def __init__(self, name: str, clock: VirtualClock, *, took_s: float = 0.1) -> None:
        self.name = name
        self.clock = clock
        self.took_s = took_s
        self.answer: Callable[[Sms], Exception | None] = lambda _message: None
        self.calls: list[float] = []
        self.accepted: list[str] = []

    async def send(self, message: Sms) -> Accepted:
        self.calls.append(self.clock.monotonic())
        await self.clock.sleep(self.took_s)
        if (error := self.answer(message)) is not None:
            raise error
        self.accepted.append(message.effect_id)
        return Accepted(self.name, f"id-{message.effect_id}")

    def slot(self, *, weight: int = 1, rate_per_s: float = 0.0, pools: PoolSettings = POOLS) -> ProviderSlot:
        gates = (RateGate(rate_per_s, wait_max_s=pools.wait_max_s, clock=self.clock),) if rate_per_s else ()
        return ProviderSlot(
            self,
            weight=weight,
            limit=AdaptiveLimit(4, 64, rise=pools.latency_rise, tolerance_s=0.1),
            breaker=Breaker(pools, self.clock.monotonic()),
            gates=gates,
            wait_max_s=pools.wait_max_s,
            metrics=Metrics(),
            clock=self.clock,
        )


def slots_of(
    clock: VirtualClock, *slots: ProviderSlot, per_minute: float = 0.0, pools: PoolSettings = POOLS
) -> ProviderSlots:
    return ProviderSlots(
        Channel.SMS,
        slots,
        recipients=RecipientRates(per_minute, recipients_max=1000, wait_max_s=pools.wait_max_s, clock=clock),
        budget=RetryBudget(
            share=pools.retry_share, least=pools.retries_per_minute_min, now=clock.monotonic()
        ),
        metrics=Metrics(),
        clock=clock,
    )


def most_in_a_second(times: list[float]) -> int:
    """The most of these, in order, that fall into any one second, its end included."""
    return max(bisect_left(times, time + 1.0 + 1e-6) - place for place, time in enumerate(times))


def sms(number: int = 1, to: str = "+14155550123") -> Sms:
    return Sms(effect_id=f"{number:032x}", to=to, body="Hello")


def changed(**values: object) -> PoolSettings:
    return msgspec.structs.replace(POOLS, **values)


def world(**took_s: float) -> SimpleNamespace:
    """A clock and a provider for each name."""
    clock = VirtualClock()
    providers = {name: ScriptedProvider(name, clock, took_s=seconds) for name, seconds in took_s.items()}
    return SimpleNamespace(clock=clock, **providers)
