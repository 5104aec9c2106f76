"""When a pipeline is ready for load, and when it has done all of it."""

import asyncio
import time
from contextlib import suppress
from typing import NamedTuple

import aiohttp
import structlog

from consumers.connection import connection
from consumers.topology import ORDER_QUEUE, QueueDepth, queue_depths
from loadtest.owed_messages import open_messages
from loadtest.scenarios.event_bodies import EventBodies
from loadtest.scenarios.generator_process import GeneratorProcess
from loadtest.scenarios.parts import Parts
from loadtest.scenarios.samples import Sampler
from loadtest.scenarios.scenario import LoadTestError, Part
from loadtest.scenarios.stand_ins import StandIns
from loadtest.scenarios.target import Target
from loadtest.sinks import SinkError, Sinks
from pipeline.errors import PostorderError
from pipeline.storage.cluster import Cluster

log = structlog.get_logger(__name__)

_START_TIMEOUT_S = 60.0
_POLL_S = 0.25
_TIMEOUT = aiohttp.ClientTimeout(total=2)
_QUIET_LOOKS = 3
_CALLBACKS_S = 15.0


class Opened(NamedTuple):
    """What is open while a scenario runs. `stand_ins`, `sinks`: None when the target is no local stack."""

    cluster: Cluster
    http: aiohttp.ClientSession
    bodies: EventBodies
    stand_ins: StandIns | None
    sinks: Sinks | None
    parts: Parts
    generator: GeneratorProcess


async def until_ready(target: Target, parts: Parts, http: aiohttp.ClientSession) -> None:
    """Wait until every part that was started works. Raises LoadTestError, PipelineProcessError."""
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            for url in parts.metrics_urls:
                while not await _answers(http, url):
                    parts.check()
                    await asyncio.sleep(_POLL_S)
            while Part.INTAKE in parts.running and not await _is_consumed(target):
                parts.check()
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        logs = ", ".join(str(process.log) for process in parts.running.values())
        raise LoadTestError(f"the pipeline is not ready after {_START_TIMEOUT_S:g} s: see {logs}") from None


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url, timeout=_TIMEOUT) as answer:
            return answer.ok
    except (TimeoutError, aiohttp.ClientError):
        return False


async def _is_consumed(target: Target) -> bool:
    return any(depth.consumers for depth in await _queues(target) if depth.name == ORDER_QUEUE)


async def _queues(target: Target) -> list[QueueDepth]:
    async with connection(target.settings.amqp, "postorder loadtest") as broker:
        return await queue_depths(await broker.channel())


async def until_quiet(
    opened: Opened, sampler: Sampler, *, sends: bool, stalled_s: float, at_most_s: float
) -> bool:
    """Wait until nothing waits anywhere. False: nothing moved for `stalled_s`, or it took `at_most_s`."""
    began = moved = time.monotonic()
    seen: object = None
    quiet = 0
    while quiet < _QUIET_LOOKS:
        if opened.parts.failures():
            return False
        waiting = await _waiting(opened, sampler, sends=sends)
        quiet = quiet + 1 if waiting == 0 else 0
        last = sampler.samples[-1] if sampler.samples else None
        now = (waiting, last.committed if last else 0, last.sms if last else 0, last.mails if last else 0)
        if now != seen:
            seen, moved = now, time.monotonic()
        if time.monotonic() - moved > stalled_s or time.monotonic() - began > at_most_s:
            log.warning("loadtest.not_quiet", waiting=waiting)
            return False
        await asyncio.sleep(_POLL_S)
    await _until_called_back(opened, min(stalled_s, _CALLBACKS_S))
    return True


async def _waiting(opened: Opened, sampler: Sampler, *, sends: bool) -> int | None:
    """Return how many events and messages wait; None: somebody who knows is away."""
    if not sampler.samples:
        return None
    queues = sampler.samples[-1].queues
    unseen = max(0, opened.generator.progress.confirmed - sampler.samples[-1].committed)
    try:
        messages = await open_messages(opened.cluster) if sends else 0
    except PostorderError:
        return None
    if not queues:
        return None
    return sum(queues.values()) + messages + unseen


async def _until_called_back(opened: Opened, stalled_s: float) -> None:
    """Wait for the callbacks of what was sent, as long as they come: they are posted behind the messages."""
    if opened.stand_ins is None:
        return
    seen, moved = None, time.monotonic()
    with suppress(SinkError):  # what does not come is missing from the figures
        while pending := await opened.stand_ins.pending_callbacks():
            if pending != seen:
                seen, moved = pending, time.monotonic()
            elif time.monotonic() - moved > stalled_s:
                return
            await asyncio.sleep(_POLL_S)
