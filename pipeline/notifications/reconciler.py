"""Looks after what fell out of the flow: lost claims, unknown outcomes, invoices left behind."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.notifications.inquiry import Inquiry
from pipeline.observability.message_metrics import MessageMetrics
from pipeline.storage.cluster import Cluster
from pipeline.storage.effects import Conclusion, Unknown
from pipeline.storage.outbox import Channel, State
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

PAGE_MAX: Final = 32
"""Unknown messages taken at once: so few that all are asked about before somebody else may take them."""
_ASKED_AT_ONCE: Final = 8
_LOOKS_PER_INQUIRY: Final = 5  # for lost claims, for one for unknown messages


class Reconciler:
    """Sweeps every shard at a steady pace. Several processes share the work: each takes what no other has.

    `tell` is called with a shard's name when messages there are to be sent.
    """

    name = "reconciler"

    def __init__(
        self,
        cluster: Cluster,
        inquiry: Inquiry,
        *,
        tell: Callable[[str], None],
        interval_s: float,
        metrics: MessageMetrics,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._cluster = cluster
        self._inquiry = inquiry
        self._tell = tell
        self._interval_s = interval_s
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks

    async def start(self) -> None:
        """Start tasks for each shard: one sweeps, one for each channel asks, which may take long."""
        for shard in self._cluster:
            self._add(shard)
        self._cluster.on_added.append(self._add)
        self._cluster.on_map.append(self._look_anew)

    def _add(self, shard: Shard) -> None:
        sweeping = self._forever(shard, self._sweep, self._interval_s)
        self._tasks.start(sweeping, f"sweep {shard.name}")
        for channel in Channel:
            asking = self._forever(shard, partial(self._ask, channel), _LOOKS_PER_INQUIRY * self._interval_s)
            self._tasks.start(asking, f"{channel} inquiries {shard.name}")

    def _look_anew(self) -> None:
        for shard in self._cluster:
            shard.outbox.look_anew()
            shard.effects.look_anew()

    async def drain(self) -> None:
        """End: a sweep has nothing to finish, and what is being asked about is asked about again."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        if self._add in self._cluster.on_added:
            self._cluster.on_added.remove(self._add)
        if self._look_anew in self._cluster.on_map:
            self._cluster.on_map.remove(self._look_anew)
        await self._tasks.cancel()

    async def _forever(self, shard: Shard, work: Callable[[Shard], Awaitable[None]], pace_s: float) -> None:
        while True:
            try:
                await work(shard)
            except PostorderError as error:
                log.warning("sweep.failed", shard=shard.name, error=str(error))
            await self._clock.sleep(pace_s)

    async def _sweep(self, shard: Shard) -> None:
        lost = await shard.effects.expire_leases()
        if lost:
            log.error("claims.lost", shard=shard.name, effects=lost)
        owed = await shard.effects.owe_left_behind_invoices()
        if owed:
            self._tell(shard.name)
            log.info("invoices.owed_late", shard=shard.name, invoices=owed)

    # --- unknown outcomes -------------------------------------------------------------------------------

    async def _ask(self, channel: Channel, shard: Shard) -> None:
        try:
            await self._ask_all(channel, shard)
        except PostorderError:
            # What is shown would count against what other processes see by now.
            self._metrics.unknown_effects.remove(shard.name, channel)
            self._metrics.unknown_oldest_seconds.remove(shard.name, channel)
            raise

    async def _ask_all(self, channel: Channel, shard: Shard) -> None:
        is_more = True
        while is_more:
            is_more = await self._ask_page(shard, channel) == PAGE_MAX
            totals = {total.channel: total for total in await shard.effects.unknown_totals()}
            total, labels = totals.get(channel), (shard.name, channel)
            self._metrics.unknown_effects.labels(*labels).set(total.effects if total else 0)
            self._metrics.unknown_oldest_seconds.labels(*labels).set(total.oldest_s if total else 0.0)

    async def _ask_page(self, shard: Shard, channel: Channel) -> int:
        """Ask about some messages and record what was found out; return how many they were."""
        settings = self._inquiry.settings
        unknown = await shard.effects.take_unknown(
            channel, PAGE_MAX, ask_after_s=settings.ask_after_s, hold_s=settings.ask_interval_s
        )
        if not unknown:
            return 0
        turns = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def conclude(one: Unknown) -> Conclusion:
            async with turns:
                return await self._inquiry.conclude(one)

        conclusions = await asyncio.gather(*map(conclude, unknown))
        states = await shard.effects.conclude(conclusions)
        if states[State.PENDING]:
            self._tell(shard.name)
        log.info("effects.asked", shard=shard.name, channel=channel, **states)
        return len(unknown)
