"""A channel whose provider hardly answers does not keep the other's unknown messages from being settled."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from claims import claim
from virtual_clock import VirtualClock, settle

from pipeline.errors import StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.inquiry import Inquiry
from pipeline.notifications.provider import Evidence
from pipeline.notifications.reconciler import PAGE_MAX, Reconciler
from pipeline.observability.metrics import Metrics
from pipeline.settings import EffectSettings
from pipeline.storage.effects import Conclusion, Unknown, UnknownTotal
from pipeline.storage.outbox import Channel, State


class Shard:
    """A shard with ever more unknown messages, of which only what was concluded is kept."""

    name = "a"

    def __init__(self) -> None:
        self.effects = self
        self.concluded: list[Conclusion] = []
        self.is_away = False

    async def take_unknown(self, channel: Channel, limit: int, **_times: float) -> list[Unknown]:
        if self.is_away:
            raise StorageUnavailableError("away")
        count = limit if channel is Channel.SMS else 1
        since = datetime(2026, 1, 1, tzinfo=UTC)
        return [
            Unknown(claim(channel=channel, effect_id=UUID(int=number)), since, 0) for number in range(count)
        ]

    async def conclude(self, conclusions: list[Conclusion]) -> dict[str, int]:
        self.concluded += conclusions
        return {State.UNKNOWN: 0, State.PENDING: 0}

    async def unknown_totals(self) -> list[UnknownTotal]:
        return [UnknownTotal(channel, PAGE_MAX, 60.0) for channel in Channel]

    async def expire_leases(self) -> int:
        return 0

    async def owe_left_behind_invoices(self) -> int:
        return 0


class Shards(list[Shard]):
    def __init__(self, shard: Shard) -> None:
        super().__init__([shard])
        self.on_added: list[Any] = []
        self.on_map: list[Any] = []


async def no_answer(*_: object) -> Evidence:
    await asyncio.Event().wait()
    raise AssertionError


def made(shard: Shard, metrics: Metrics, clock: VirtualClock, crashes: list[BaseException]) -> Reconciler:
    shards: Any = Shards(shard)
    return Reconciler(
        shards,
        Inquiry(EffectSettings(), {Channel.SMS: no_answer}, attempts_max=8, metrics=metrics),
        tell=lambda _shard: None,
        interval_s=1.0,
        metrics=metrics,
        clock=clock,
        tasks=Tasks(lambda _name, error: crashes.append(error)),
    )


async def test_what_was_unknown_on_a_shard_that_went_away_is_not_shown_on() -> None:
    """Another process may reach it, and have settled it: the largest of what all show is what counts."""
    shard, metrics, clock = Shard(), Metrics(), VirtualClock()
    crashes: list[BaseException] = []
    tested = made(shard, metrics, clock, crashes)

    def shown(name: str) -> float | None:
        labels = {"shard": "a", "channel": "email"}
        return metrics.registry.get_sample_value(f"postorder_unknown_{name}", labels)

    await tested.start()
    await settle()
    assert (shown("effects"), shown("oldest_seconds")) == (PAGE_MAX, 60.0)
    shard.is_away = True
    await clock.pass_by(60)
    assert (shown("effects"), shown("oldest_seconds")) == (None, None)
    await tested.stop()
    assert crashes == []


async def test_mails_are_settled_while_twilio_does_not_answer() -> None:
    shard, metrics, clock = Shard(), Metrics(), VirtualClock()
    crashes: list[BaseException] = []
    tested = made(shard, metrics, clock, crashes)
    await tested.start()
    await settle()
    await tested.stop()
    assert [one.detail for one in shard.concluded] == ["cannot_tell:nobody_to_ask person"]
    assert crashes == []
    assert metrics.unknown_effects.labels("a", Channel.EMAIL)._value.get() == PAGE_MAX
