"""Looks, decides, applies: the loop around `pipeline.allocation`. No logic of its own."""

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from consumers.allocator.backlog import Backlog
from consumers.allocator.observing import Observer
from consumers.allocator.worker import Worker
from pipeline.allocation.bottleneck import Bottleneck
from pipeline.allocation.bounds import Allocation, Bounds
from pipeline.allocation.decision import Decision, Lever, State, decide
from pipeline.allocation.observation import Observation
from pipeline.clock import Clock
from pipeline.observability.allocator_metrics import AllocatorMetrics

log = structlog.get_logger(__name__)

_SAY_S: Final = 10.0  # a bottleneck may change with each look


class Controller:
    """`apply` is called with each decision that changes something, and when the bottleneck is another one.

    For the latter at most once in ten seconds: it is for people, who read it in the workers' reports.
    Mutable state: `state`, the bottleneck that was applied last, and when.
    """

    def __init__(
        self,
        *,
        start: Allocation,
        bounds: Bounds,
        backlog: Backlog,
        workers: Callable[[], Sequence[Worker]],
        apply: Callable[[Decision], None],
        look_every_s: float,
        metrics: AllocatorMetrics,
        clock: Clock,
    ) -> None:
        self._bounds = bounds
        self._backlog = backlog
        self._workers = workers
        self._apply = apply
        self._look_every_s = look_every_s
        self._metrics = metrics
        self._clock = clock
        self._observer = Observer()
        # What workers do while they start says nothing.
        self.state = State(allocation=bounds.within(start), changed_at_s=clock.monotonic())
        self._applied = self.state.bottleneck
        self._applied_at_s = clock.monotonic()
        self._show_allocation(self.state.allocation)

    def __repr__(self) -> str:
        return f"Controller({self.state})"

    async def run(self) -> None:
        """Decide every so often, until cancelled."""
        try:
            while True:
                await self._clock.sleep(self._look_every_s)
                await self._step()
        finally:
            await self._backlog.close()

    async def _step(self) -> None:
        ready = await self._backlog.ready()
        before = self.state
        seen = self._observer.look(self._clock.monotonic(), self._workers(), ready, before.allocation)
        decision = decide(seen, before, self._bounds)
        self.state = decision.state
        self._show(seen, decision)
        if decision.lever is not Lever.NONE:
            self._tell(seen, before, decision)
        elif decision.bottleneck is not before.bottleneck:
            log.info("allocator.bottleneck", bottleneck=decision.bottleneck, reason=decision.reason)
        if decision.lever is not Lever.NONE or self._is_news(seen.at_s, decision.bottleneck):
            self._applied, self._applied_at_s = decision.bottleneck, seen.at_s
            self._apply(decision)

    def _is_news(self, now_s: float, bottleneck: Bottleneck) -> bool:
        return bottleneck is not self._applied and now_s - self._applied_at_s >= _SAY_S

    def _tell(self, seen: Observation, before: State, decision: Decision) -> None:
        lever = decision.lever
        was, now = getattr(before.allocation, lever), getattr(decision.allocation, lever)
        self._metrics.decisions.labels(lever, "up" if now > was else "down").inc()
        log.info(
            "allocator.decided",
            lever=lever,
            before=was,
            after=now,
            bottleneck=decision.bottleneck,
            reason=decision.reason,
            ready=seen.ready,
            held=seen.held,
            settled_per_s=round(seen.settled_per_s),
            worker_cpu=round(seen.worker_cpu, 2),
            machine_cpu=round(seen.machine_cpu, 2),
        )

    def _show(self, seen: Observation, decision: Decision) -> None:
        metrics = self._metrics
        self._show_allocation(decision.allocation)
        metrics.work_seconds.set(seen.work_s)
        metrics.worker_cpu.set(seen.worker_cpu)
        for bottleneck in Bottleneck:
            metrics.bottleneck.labels(bottleneck).set(float(bottleneck is decision.bottleneck))

    def _show_allocation(self, allocation: Allocation) -> None:
        self._metrics.prefetch.set(allocation.prefetch)
        self._metrics.batch_max.set(allocation.batch_max)
