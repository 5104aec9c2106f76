"""Runs a scenario: starts what it needs, publishes by plan, breaks what it says, waits, and counts."""

import asyncio
import os
import time
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import aiohttp
import structlog

from loadtest.scenarios.arrivals import Arrivals, plan
from loadtest.scenarios.counting import Counting
from loadtest.scenarios.event_bodies import EventBodies
from loadtest.scenarios.generator_process import GeneratorProcess
from loadtest.scenarios.injections import Injections
from loadtest.scenarios.observation import Observation, Span
from loadtest.scenarios.parts import Accounting, Parts
from loadtest.scenarios.readiness import Opened, until_quiet, until_ready
from loadtest.scenarios.report import Report, report_of
from loadtest.scenarios.samples import Sample, Sampler
from loadtest.scenarios.scenario import Phase, Scenario
from loadtest.scenarios.sightings import Sightings
from loadtest.scenarios.stand_ins import StandIns
from loadtest.scenarios.target import Target, check_runs, prepare
from loadtest.sinks import Sinks
from pipeline.storage.cluster import Cluster

log = structlog.get_logger(__name__)

_SAMPLES_MAX = 600
_SAMPLE_S = 1.0
_POLL_S = 0.1
_SETTLE_INTERRUPTED_S = 10.0


class Audience(Protocol):
    """Whom the run tells how it goes."""

    def say(self, text: str) -> None:
        """Take a line."""

    def tell(self, sample: Sample, phase: Phase | None) -> None:
        """Take a sample, and the phase it was taken in; None: everything is published."""


class Run:
    """One run of a scenario on a target. Mutable state: the phase, and whether it was told to stop."""

    def __init__(self, scenario: Scenario, target: Target, folder: Path, audience: Audience) -> None:
        self._scenario = scenario
        self._target = target
        self._folder = folder
        self._audience = audience
        self._stopping = asyncio.Event()
        self._phase: Phase | None = None
        self._gave_up = False
        self._exits = AsyncExitStack()

    def stop(self) -> None:
        """End early, and report what was seen."""
        self._stopping.set()

    async def carry_out(self, command: str, history: Sequence[datetime] = ()) -> Report:
        """Run it and return the report. Raises LoadTestError, and errors of what is not there."""
        scenario, target = self._scenario, self._target
        arrivals = plan(scenario, history)
        self._folder.mkdir(parents=True, exist_ok=True)
        async with self._exits:
            if target.own:
                await prepare(target, scenario)
            seen = await self._observed(await self._open(), arrivals)
        self._audience.say("computing the report")
        return report_of(seen, command=command, target=target.description)

    async def _open(self) -> Opened:
        """Open everything, in the order in which it has to be closed backwards."""
        scenario, target, enter = self._scenario, self._target, self._exits.enter_async_context
        cluster = Cluster(target.settings)
        self._exits.push_async_callback(cluster.close)
        await check_runs(target, cluster)
        for shard in cluster:
            if shard.replica:
                await shard.replica.open()
        await cluster.load_map()
        http = await enter(aiohttp.ClientSession())
        bodies = EventBodies(uuid4().hex[:8])
        stack = target.stack
        stand_ins = StandIns(http, stack, bodies) if stack else None
        sinks = Sinks(http, smtp_api=stack.smtp.api_url, twilio_api=stack.twilio.api_url) if stack else None
        parts = self._exits.enter_context(Parts(target, scenario, self._folder))
        generator = await enter(GeneratorProcess(target.settings_file, self._folder, bodies.run, os.environ))
        await until_ready(target, parts, http)
        return Opened(
            cluster=cluster,
            http=http,
            bodies=bodies,
            stand_ins=stand_ins,
            sinks=sinks,
            parts=parts,
            generator=generator,
        )

    async def _observed(self, opened: Opened, arrivals: Arrivals) -> Observation:
        scenario, target = self._scenario, self._target
        counting = Counting(scenario, target, opened, arrivals)
        await counting.begin()
        accounting = Accounting(target, opened.parts)
        await opened.generator.prepare(arrivals)
        accounting.watch_generator(opened.generator.pid)
        async with Sightings(opened.cluster) as sightings:
            sampler = Sampler(
                target=target,
                cluster=opened.cluster,
                parts=opened.parts,
                accounting=accounting,
                arrivals=arrivals,
                generator=opened.generator,
                sightings=sightings,
                sinks=opened.sinks,
                http=opened.http,
            )
            await sampler.begin()
            start = await opened.generator.begin()
            interval_s = max(_SAMPLE_S, scenario.seconds / _SAMPLES_MAX)
            sampling = asyncio.create_task(sampler.run(start, interval_s, self._heard(arrivals)))
            try:
                spans = await self._play(opened, accounting, start)
                sent = await opened.generator.result()
                await self._settle(opened, sampler)
            finally:
                sampling.cancel()
                await asyncio.wait([sampling])
            ended = opened.parts.failures()
            await asyncio.to_thread(opened.parts.stop)
            counting.note_failures(ended, opened.generator.failure, sampling)
            return await counting.end(
                sightings, sent, spans, sampler.samples, interrupted=self._stopping.is_set()
            )

    async def _play(self, opened: Opened, accounting: Accounting, start: float) -> list[Span]:
        """Go through the phases; return those that were begun. Faults that began end here in any case."""
        injections = Injections(
            target=self._target,
            parts=opened.parts,
            accounting=accounting,
            stand_ins=opened.stand_ins,
            folder=self._folder,
            say=self._audience.say,
        )
        spans: list[Span] = []
        for phase, begin_s, end_s in self._scenario.bounds():
            if not await self._reaches(start + begin_s, opened):
                break
            self._phase = phase
            await injections.begin(phase)
            try:
                await self._reaches(start + end_s, opened)
            finally:
                await injections.end(phase)
            spans.append(Span(phase, begin_s, min(end_s, time.time() - start)))
        self._phase = None
        if self._is_over(opened):
            opened.generator.stop()
        return spans

    async def _reaches(self, at: float, opened: Opened) -> bool:
        """Wait for a moment. False: the run ends before."""
        while (left_s := at - time.time()) > 0:
            if self._is_over(opened):
                return False
            await asyncio.sleep(min(_POLL_S, left_s))
        return not self._is_over(opened)

    def _is_over(self, opened: Opened) -> bool:
        broken = opened.generator.failure or opened.parts.failures()
        return self._stopping.is_set() or self._gave_up or bool(broken)

    def _heard(self, arrivals: Arrivals) -> "_Listener":
        return _Listener(self, arrivals)

    def hear(self, sample: Sample, lag_s: float) -> None:
        """Take a sample; a ramp ends when too much work is open."""
        ramp = self._scenario.ramp
        if ramp is not None and self._phase is not None and lag_s > ramp.give_up_lag_s and not self._gave_up:
            self._gave_up = True
            self._audience.say(f"{self._phase.name}: {lag_s:.1f} s of work is open: the ramp ends here")
        self._audience.tell(sample, self._phase)

    @property
    def rate_per_s(self) -> float:
        """Orders a second that are planned in this phase."""
        return self._scenario.rate_per_s * (self._phase.load if self._phase else 0.0)

    @property
    def counts_messages(self) -> bool:
        """Whether messages go out, to stand-ins that say how many came."""
        return self._scenario.sends and self._target.stack is not None

    async def _settle(self, opened: Opened, sampler: Sampler) -> None:
        """Wait until everything is done that was published, as long as that goes on."""
        limit_s = self._scenario.settle_s
        if self._stopping.is_set():
            limit_s = min(limit_s, _SETTLE_INTERRUPTED_S)
        self._audience.say("everything is published; waiting until it is done")
        await until_quiet(
            opened,
            sampler,
            sends=self._scenario.sends,
            stalled_s=limit_s,
            at_most_s=limit_s if self._stopping.is_set() else float("inf"),
        )


class _Listener:
    """Turns a sample into how far the pipeline is behind, for a ramp."""

    def __init__(self, run: Run, arrivals: Arrivals) -> None:
        self._run = run
        times = arrivals.order_times()
        self._orders_s = sorted(times)
        self._sms_s, self._mails_s = sorted(times[arrivals.with_phone]), sorted(times[arrivals.with_address])

    def __call__(self, sample: Sample) -> None:
        """Take a sample."""
        self._run.hear(sample, self._lag_s(sample))

    def _lag_s(self, sample: Sample) -> float:
        rate = self._run.rate_per_s
        if not rate:
            return 0.0
        behind = bisect_right(self._orders_s, sample.at_s) - sample.orders
        if self._run.counts_messages:
            sms, mails = (bisect_right(times, sample.at_s) for times in (self._sms_s, self._mails_s))
            behind = max(behind, sms - sample.sms, mails - sample.mails)
        return behind / rate
