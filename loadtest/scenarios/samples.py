"""What is looked at once a second while a load test runs."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
import numpy as np
import structlog
from prometheus_client.parser import text_string_to_metric_families

from consumers.connection import BROKER_ERRORS, close_quietly, open_connection
from consumers.topology import queue_depths
from loadtest.scenarios.arrivals import Arrivals
from loadtest.scenarios.generator_process import GeneratorProcess
from loadtest.scenarios.parts import Accounting, Parts, Usage
from loadtest.scenarios.servers import waits
from loadtest.scenarios.sightings import Sightings
from loadtest.scenarios.target import Target
from loadtest.sinks import SinkError, Sinks
from pipeline.errors import PostorderError
from pipeline.storage.cluster import Cluster

log = structlog.get_logger(__name__)

_PAGE_TIMEOUT = aiohttp.ClientTimeout(total=2)
# The few of the pipeline's metrics that tell where it waits.
_GAUGES = (
    "postorder_buffered_events",
    "postorder_pool_ceiling",
    "postorder_sends_in_flight",
    "postorder_slot_limit",
    "postorder_slot_in_flight",
    "postorder_slot_circuit",
    "postorder_held_back_total",
    "postorder_parked_total",
    "postorder_open_receipts",
    "postorder_allocator_workers",
    "postorder_allocator_prefetch",
    "postorder_allocator_work_seconds",
    "postorder_allocator_worker_cpu_cores",
    "postorder_allocator_bottleneck",
    "postorder_allocator_decisions_total",
)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One look. `at_s`: since the run's start. Counts are of the run, up to now."""

    at_s: float
    due: int
    sent: int
    confirmed: int
    late_s: float
    committed: int
    orders: int
    invoices: int
    replica: int
    sms: int
    mails: int
    queues: dict[str, int]
    gauges: dict[str, float]
    waits: dict[str, int]
    usage: Usage


class Sampler:
    """Takes samples until it is cancelled. Mutable state: the samples, and the connection to the broker."""

    def __init__(
        self,
        *,
        target: Target,
        cluster: Cluster,
        parts: Parts,
        accounting: Accounting,
        arrivals: Arrivals,
        generator: GeneratorProcess,
        sightings: Sightings,
        sinks: Sinks | None,
        http: aiohttp.ClientSession,
    ) -> None:
        self._target = target
        self._cluster = cluster
        self._parts = parts
        self._accounting = accounting
        self._arrivals = arrivals
        self._generator = generator
        self._sightings = sightings
        self._sinks = sinks
        self._http = http
        self._sent_before = self._last_accepted = (0, 0)
        self.samples: list[Sample] = []

    async def begin(self) -> None:
        """Count messages from here on."""
        self._sent_before = await self._accepted()

    async def run(self, start: float, interval_s: float, tell: Callable[[Sample], None]) -> None:
        """Take a sample every so often; `tell` is told of each."""
        broker = await open_connection(self._target.settings.amqp, "postorder loadtest")
        try:
            channel = await broker.channel()
            while True:
                next_at = time.monotonic() + interval_s
                self.samples.append(await self._sample(start, await _depths(channel)))
                tell(self.samples[-1])
                await asyncio.sleep(max(0.0, next_at - time.monotonic()))
        finally:
            await close_quietly(broker, self._target.settings.amqp)

    async def _sample(self, start: float, queues: dict[str, int]) -> Sample:
        gauges = await self._gauges()
        found = await waits(self._cluster)
        usage = await asyncio.to_thread(self._accounting.read)
        sms, mails = await self._accepted()
        # What is compared with each other is read at one moment, and last.
        progress, seen, at_s = self._generator.progress, self._sightings, time.time() - start
        return Sample(
            at_s=round(at_s, 3),
            due=int(np.searchsorted(self._arrivals.at_s, at_s)),
            sent=progress.sent,
            confirmed=progress.confirmed,
            late_s=progress.late_s,
            committed=seen.events,
            orders=seen.orders,
            invoices=seen.invoices,
            replica=sum(watch.events for watch in seen.replicas.values()),
            sms=sms - self._sent_before[0],
            mails=mails - self._sent_before[1],
            queues=queues,
            gauges=gauges,
            waits=dict(found),
            usage=usage,
        )

    async def _accepted(self) -> tuple[int, int]:
        """Return how many SMS and mails were accepted; what was known last, if a stand-in does not say."""
        if self._sinks is None:
            return 0, 0
        try:
            self._last_accepted = (await self._sinks.sms())[0], (await self._sinks.mails())[0]
        except SinkError as error:
            log.info("loadtest.stand_in_unread", error=str(error))
        return self._last_accepted

    async def _gauges(self) -> dict[str, float]:
        """Return the sums over all processes."""
        found: dict[str, float] = {}
        for url in self._parts.pages:
            with suppress(TimeoutError, aiohttp.ClientError):  # not up yet, or too busy to say
                async with self._http.get(url, timeout=_PAGE_TIMEOUT) as answer:
                    for name, value in gauges_of(await answer.text()).items():
                        found[name] = found.get(name, 0.0) + value
        return found


def gauges_of(page: str) -> dict[str, float]:
    """Return the values looked at, of a page of metrics, by name and labels."""
    lines = [line for line in page.splitlines() if line.startswith(_GAUGES)]
    found: dict[str, float] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            labels = ",".join(sample.labels[name] for name in sorted(sample.labels))
            found[f"{sample.name.removeprefix('postorder_')}{{{labels}}}"] = sample.value
    return found


async def _depths(channel: Any) -> dict[str, int]:
    try:
        return {depth.name: depth.messages for depth in await queue_depths(channel)}
    except (*BROKER_ERRORS, PostorderError) as error:
        log.info("loadtest.queues_unread", error=type(error).__name__)
        return {}
