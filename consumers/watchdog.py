"""Counts consumers from the outside: a consumer that believes it consumes and does not is started anew."""

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from consumers.amqp import QueueConsumer
from consumers.connection import BROKER_ERRORS
from consumers.standing_channel import StandingChannel
from consumers.topology import QueueDepth, queue_depths
from pipeline.clock import Clock
from pipeline.errors import BrokerUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.observability.readiness import Cause
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)

_INTERVAL_S = 5.0
_LOOKS = 2  # a consumer that has just connected may not be counted yet


class Watchdog:
    """Looks at the queues every few seconds on a connection of its own. Mutable state: `_missing`."""

    name = "watchdog"

    def __init__(
        self,
        consumers: Sequence[QueueConsumer],
        *,
        settings: AmqpSettings,
        metrics: Metrics,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._consumers = consumers
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._channel = StandingChannel(settings, "postorder watchdog")
        self._missing = dict.fromkeys((consumer.queue for consumer in consumers), 0)

    def __repr__(self) -> str:
        return f"Watchdog({self._missing})"

    async def start(self) -> None:
        """Begin to look."""
        self._tasks.start(self._watch(), self.name)

    def causes(self) -> Iterable[Cause]:
        """Return a cause for each queue that this process has no session with. Called by another thread."""
        return [
            Cause("broker", "no session with the queue", what=consumer.queue)
            for consumer in self._consumers
            if not consumer.consuming
        ]

    async def drain(self) -> None:
        """Stop looking: consumers are about to go, and that is right."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()
        await self._channel.close()

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(_INTERVAL_S)
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s):
                    found = await self._look()
            except BROKER_ERRORS as error:
                self._is_blind(type(error).__name__)
                await self._channel.close()
            except BrokerUnavailableError as error:
                self._is_blind(str(error))
            else:
                # Outside of the time-out: a restart cut short leaves a session neither open nor lost.
                await self._judge_all(found)

    def _is_blind(self, why: str) -> None:
        """Say so, and nothing of queues: what was seen before would outdo what other processes see now."""
        log.warning("watchdog.blind", error=why)
        metrics = self._metrics
        metrics.broker_up.set(0)
        metrics.queue_messages.clear()
        metrics.queue_consumers.clear()
        metrics.work.hide("intake")

    async def _look(self) -> dict[str, int]:
        """Return how many consumers each queue has."""
        depths = await queue_depths(await self._channel.get())
        for depth in depths:
            self._metrics.queue_messages.labels(depth.name).set(depth.messages)
            self._metrics.queue_consumers.labels(depth.name).set(depth.consumers)
        self._metrics.broker_up.set(1)
        self._show_work(depths)
        return {depth.name: depth.consumers for depth in depths}

    def _show_work(self, depths: Sequence[QueueDepth]) -> None:
        """Show what waits for this process and its like: of their rate only its own share is known."""
        work, now = self._metrics.work, self._clock.monotonic()
        found = {depth.name: depth for depth in depths}
        for consumer in self._consumers:
            depth = found[consumer.queue]
            work.stage("intake", consumer.queue).look(
                now, depth.messages, consumer.taken, times=max(1, depth.consumers)
            )
        work.show("intake")

    async def _judge_all(self, found: dict[str, int]) -> None:
        for consumer in self._consumers:
            await self._judge(consumer, found[consumer.queue])

    async def _judge(self, consumer: QueueConsumer, found: int) -> None:
        gone = found == 0 and consumer.consuming
        self._missing[consumer.queue] = self._missing[consumer.queue] + 1 if gone else 0
        if self._missing[consumer.queue] >= _LOOKS:
            self._missing[consumer.queue] = 0
            log.error("watchdog.consumer_gone", queue=consumer.queue)
            await consumer.restart()
