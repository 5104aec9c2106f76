"""What the pool costs for each message, without a provider: `python -m loadtest.pool_bench`.

A no-op provider behind a slot with all its limits, 50,000 messages, best of three; microseconds of CPU.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uvloop

from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.notifications.pools.adaptive_limit import AdaptiveLimit
from pipeline.notifications.pools.breaker import Breaker
from pipeline.notifications.pools.provider_slot import ProviderSlot
from pipeline.notifications.pools.provider_slots import ProviderSlots
from pipeline.notifications.pools.rate_gate import RateGate, RecipientRates
from pipeline.notifications.pools.retry_budget import RetryBudget
from pipeline.notifications.pools.worker_pool import FixedCapacity, WorkerPool
from pipeline.notifications.provider import Accepted
from pipeline.observability.metrics import Metrics
from pipeline.settings import PoolSettings
from pipeline.storage.outbox import Channel, Claim, Kind

_MESSAGES = 50_000
_ROUNDS = 3
_CLAIM = Claim(
    shard="s",
    slot=1,
    effect_id=UUID(int=1),
    claim_id=UUID(int=2),
    channel=Channel.SMS,
    kind=Kind.ORDER_SMS,
    order_id="o-1",
    invoice_id=None,
    attempt=1,
    is_expired=False,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    event_time=None,
    number=None,
    customer_name=None,
    email=None,
    phone=None,
    locale=None,
    country=None,
    currency="EUR",
    total="1",
    lines="[]",
)


class _Message:
    to = "+14155550123"


class _NoProvider:
    """Accepts everything at once."""

    name = "none"
    _accepted = Accepted("none", "1")

    async def send(self, message: Any) -> Accepted:  # noqa: ARG002  # a provider's signature
        await asyncio.sleep(0)  # a real one waits for its reply
        return self._accepted


def _slots(rate_per_s: float = 0.0, count: int = 1) -> ProviderSlots:
    pools, clock, metrics = PoolSettings(), SystemClock(), Metrics()
    gates = (RateGate(rate_per_s, wait_max_s=1.0, clock=clock),) if rate_per_s else ()
    slots = [
        ProviderSlot(
            _NoProvider(),
            weight=1,
            limit=AdaptiveLimit(4, 64 // count, rise=2.0, tolerance_s=0.1),
            breaker=Breaker(pools, clock.monotonic()),
            gates=gates,
            wait_max_s=1.0,
            metrics=metrics,
            clock=clock,
        )
        for _ in range(count)
    ]
    return ProviderSlots(
        Channel.SMS,
        slots,
        recipients=RecipientRates(0, recipients_max=1, wait_max_s=1.0, clock=clock),
        budget=RetryBudget(share=0.2, least=6, now=clock.monotonic()),
        metrics=metrics,
        clock=clock,
    )


async def _through(slots: ProviderSlots | None) -> float:
    """Put messages through a pool, or a pool and slots; return microseconds for each."""
    provider, message = _NoProvider(), _Message()
    unsent, all_sent = _MESSAGES, asyncio.Event()

    async def work(_claim: Claim) -> None:
        nonlocal unsent
        if slots is None:
            await provider.send(message)
        else:
            await slots.send(message, 1)
        unsent -= 1
        if not unsent:
            all_sent.set()

    pool = WorkerPool("bench", capacity=slots or FixedCapacity(32), work=work, tasks=Tasks(_raise))
    pool.start()
    started, left = time.process_time(), _MESSAGES
    while left:
        places = await pool.reserve(min(100, left))
        left -= places
        for _ in range(places):
            pool.put(_CLAIM)
    await all_sent.wait()  # the end of a pool has nobody wait for a call any more
    took_s = time.process_time() - started
    await pool.finish()
    return took_s / _MESSAGES * 1e6


def _raise(name: str, error: BaseException) -> None:
    raise RuntimeError(name) from error


def main() -> None:
    """Measure and print."""
    cases: dict[str, Callable[[], ProviderSlots | None]] = {
        "pool alone": lambda: None,
        "pool and a slot": _slots,
        "pool and a slot with a rate limit": lambda: _slots(rate_per_s=1_000_000.0),
        "pool and two slots": lambda: _slots(count=2),
    }
    for name, make in cases.items():
        best_us = min(uvloop.run(_through(make())) for _ in range(_ROUNDS))
        print(f"{name:36} {best_us:6.2f} µs")  # noqa: T201  # the result


if __name__ == "__main__":
    main()
