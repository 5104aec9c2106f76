"""The loop around the decisions: what is decided is applied, logged and shown."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from structlog.testing import capture_logs
from virtual_clock import VirtualClock

from consumers.allocator.controller import Controller
from consumers.allocator.messages import WorkerWord
from pipeline.allocation.bottleneck import Bottleneck
from pipeline.allocation.bounds import Allocation, Bounds
from pipeline.allocation.decision import Decision, Lever
from pipeline.observability.allocator_metrics import AllocatorMetrics
from pipeline.observability.registry import MetricRegistry

BOUNDS = Bounds(
    floor=Allocation(workers=1, prefetch=500, batch_max=100),
    ceiling=Allocation(workers=3, prefetch=8000, batch_max=1000),
)


class Queue:
    """A broker's backlog. `ready` is what a test says; it is closed at the end."""

    def __init__(self, ready: int | None) -> None:
        self.waiting = ready
        self.is_closed = False

    async def ready(self) -> int | None:
        return self.waiting

    async def close(self) -> None:
        self.is_closed = True


class Busy:
    """A worker that uses nearly all of a core."""

    pid = 1

    def __init__(self, number: int, clock: VirtualClock) -> None:
        self.number = number
        self._clock = clock

    @property
    def heard_at_s(self) -> float:
        return self._clock.time

    @property
    def word(self) -> WorkerWord:
        return WorkerWord(readings={"events_total{orders}": 1000 * self._clock.time}, batch_max=500)

    def cpu_s(self) -> float:
        return 0.9 * self._clock.time


@pytest.fixture
def no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that the test runs on may be busy."""
    monkeypatch.setattr("consumers.allocator.observing._machine_s", lambda: (0.0, 0.0))


def controlling(
    queue: Queue,
    workers: list[Busy],
    apply: Callable[[Decision], None],
    metrics: AllocatorMetrics,
    clock: VirtualClock,
) -> Controller:
    return Controller(
        start=Allocation(workers=1, prefetch=60_000, batch_max=500),
        bounds=BOUNDS,
        backlog=queue,  # type: ignore[arg-type]
        workers=lambda: workers,  # type: ignore[arg-type,return-value]
        apply=apply,
        look_every_s=2.0,
        metrics=metrics,
        clock=clock,
    )


@pytest.mark.usefixtures("no_machine")
async def test_workers_come_until_the_ceiling_and_each_decision_is_told() -> None:
    clock, queue = VirtualClock(), Queue(100_000)
    registry = MetricRegistry()
    metrics = AllocatorMetrics(registry)
    workers = [Busy(1, clock)]
    applied: list[Decision] = []

    def apply(decision: Decision) -> None:
        applied.append(decision)
        workers[:] = [Busy(number, clock) for number in range(1, 1 + decision.allocation.workers)]

    controller = controlling(queue, workers, apply, metrics, clock)
    assert controller.state.allocation.prefetch == 8000  # within its bounds from the start
    assert registry.get_sample_value("postorder_allocator_prefetch") == 8000  # before the first look, too
    with capture_logs() as logs:
        task = asyncio.create_task(controller.run())
        await clock.pass_by(60)
        queue.waiting = None
        await clock.pass_by(4)
        task.cancel()
        await clock.pass_by(0)
    decided = [entry for entry in logs if entry["event"] == "allocator.decided"]
    assert [(entry["lever"], entry["before"], entry["after"]) for entry in decided] == [
        ("workers", 1, 2),
        ("workers", 2, 3),
    ]
    assert decided[0]["reason"] == "workers use 90% of a core, and 100.0 s of work wait"
    assert [(decision.allocation.workers, decision.bottleneck) for decision in applied] == [
        (2, "workers"),
        (3, "workers"),
        (3, "broker"),  # nothing changes but what the workers report
    ]
    assert [e["bottleneck"] for e in logs if e["event"] == "allocator.bottleneck"] == ["workers", "broker"]
    page = registry.page("")[0].decode()
    assert 'postorder_allocator_bottleneck{bottleneck="broker"} 1.0' in page
    assert 'postorder_allocator_bottleneck{bottleneck="workers"} 0.0' in page
    assert 'postorder_allocator_decisions_total{direction="up",lever="workers"} 2.0' in page
    assert queue.is_closed


@pytest.mark.usefixtures("no_machine")
async def test_a_bottleneck_that_comes_and_goes_is_told_now_and_then_and_as_it_is_at_last() -> None:
    clock, queue = VirtualClock(), Queue(0)
    applied: list[tuple[float, Decision]] = []
    controller = controlling(
        queue,
        [Busy(1, clock)],
        lambda decision: applied.append((clock.time, decision)),
        AllocatorMetrics(MetricRegistry()),
        clock,
    )
    task = asyncio.create_task(controller.run())
    for _ in range(30):  # one minute: another one with each look
        queue.waiting = 0 if queue.waiting is None else None
        await clock.pass_by(2)
    told = len(applied)
    queue.waiting = None
    await clock.pass_by(20)
    task.cancel()
    await clock.pass_by(0)
    assert 2 <= told <= 6
    assert applied[-1][1].bottleneck is controller.state.bottleneck is Bottleneck.BROKER
    times = [time for time, decision in applied if decision.lever is Lever.NONE]
    assert all(later - sooner >= 10 for sooner, later in pairwise(times))
