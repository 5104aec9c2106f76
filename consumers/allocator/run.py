"""`postorder run --workers N|auto`: the supervisor's process, put together."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from consumers.allocator.backlog import Backlog
from consumers.allocator.controller import Controller
from consumers.allocator.messages import Order
from consumers.allocator.port import SupervisorAnswers
from consumers.allocator.supervisor import Supervisor
from consumers.allocator.worker import Worker, WorkerSpec, environment_of
from consumers.ops.server import OpsServer
from consumers.role_needs import require_needs
from consumers.roles import Role
from consumers.topology import CUSTOMER_QUEUE, INVOICE_QUEUE, ORDER_QUEUE
from pipeline.allocation.bounds import Allocation, Bounds
from pipeline.allocation.decision import Decision
from pipeline.clock import Clock, SystemClock
from pipeline.errors import SettingsError
from pipeline.observability.allocator_metrics import AllocatorMetrics
from pipeline.observability.registry import MetricRegistry
from pipeline.observability.supervisor_metrics import SupervisorMetrics
from pipeline.settings import Settings
from pipeline.settings.allocator import WORKERS_MAX

log = structlog.get_logger(__name__)

_QUEUES: Final = {
    Role.ORDERS: ORDER_QUEUE,
    Role.INVOICES: INVOICE_QUEUE,
    Role.CUSTOMERS: CUSTOMER_QUEUE,
}
_FLOW: Final = frozenset({*_QUEUES, Role.NOTIFICATIONS})
KILL_AFTER_S: Final = 5.0
"""Beyond `ops.drain_timeout_s`: a worker that is over its own time-out has hung, and is killed."""
_HANGS_AFTER_S: Final = 60.0  # beyond the drain, in which a worker says nothing
_BEAT_S: Final = 0.5
_STALLED_S: Final = 10.0  # its event loop does next to nothing
_PORT_MAX: Final = 65_535


def wanted_workers(text: str) -> int | None:
    """Return how many workers `--workers` asks for; None: auto. Raises SettingsError."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= WORKERS_MAX:
        raise SettingsError([f"--workers: must be auto or a number from 1 to {WORKERS_MAX}, not {text!r}"])
    return int(text)


class SupervisorProcess:
    """A supervisor and its workers. `run` returns the exit status. `workers` None: the allocator decides."""

    def __init__(self, settings: Settings, roles: frozenset[Role], config: Path, workers: int | None) -> None:
        if not roles & _FLOW:
            listening = ", ".join(sorted(roles))
            raise SettingsError([f"--workers: {listening} listens on one port, and so is one process"])
        self._settings = settings
        self._roles = roles
        self._config = config.absolute()
        self._workers = workers
        self._clock: Clock = SystemClock()
        self._bounds = bounds_of(settings)
        most = self._bounds.ceiling.workers if workers is None else workers
        port = settings.ops.metrics_port
        if port and port + most > _PORT_MAX:
            raise SettingsError([f"ops.metrics_port: {port} and one for each worker are more than there are"])
        self._registry = MetricRegistry()
        self._supervisor = Supervisor(self._new_worker, SupervisorMetrics(self._registry))
        self._decisions = AllocatorMetrics(self._registry) if workers is None else None

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, then have every worker drain. 0: all drained. Raises SettingsError."""
        require_needs(self._settings, self._roles)  # of the workers: else each would say so, and end
        answers = SupervisorAnswers(self._registry, self._supervisor, stalled_s=_STALLED_S)
        port = self._port(answers)
        beating = asyncio.create_task(_beat(answers, self._clock))
        controlling = self._start()
        try:
            return await self._supervisor.until_stopped()
        finally:
            for task in (controlling, beating):
                if task is not None:
                    task.cancel()
            self._supervisor.kill()  # nobody is left but after an error
            if port is not None:
                port.close()

    def _start(self) -> asyncio.Task[None] | None:
        """Start the workers, and the allocator when it is to decide."""
        log.info("supervisor.started", workers=self._workers or "auto", roles=sorted(self._roles))
        if self._workers is not None:
            self._supervisor.start(self._workers, Order())
            return None
        assert self._decisions is not None
        controller = self._controller(self._decisions)
        self._supervisor.start(
            controller.state.allocation.workers, _order(controller.state.allocation, "none", "start")
        )
        task = asyncio.create_task(controller.run(), name="allocator")
        task.add_done_callback(self._supervisor.on_task_ended)
        return task

    def _controller(self, metrics: AllocatorMetrics) -> Controller:
        settings = self._settings
        return Controller(
            start=Allocation(
                workers=settings.allocator.workers_min,
                prefetch=settings.amqp.prefetch,
                batch_max=settings.intake.batch_max,
            ),
            bounds=self._bounds,
            backlog=Backlog((queue for role, queue in _QUEUES.items() if role in self._roles), settings.amqp),
            workers=lambda: self._supervisor.workers,
            apply=self._apply,
            look_every_s=settings.allocator.look_every_s,
            metrics=metrics,
            clock=self._clock,
        )

    def _apply(self, decision: Decision) -> None:
        allocation = decision.allocation
        order = _order(allocation, decision.bottleneck, decision.reason)
        self._supervisor.set(allocation.workers, order)

    def _new_worker(self, number: int, on_ended: Callable[[Worker], None]) -> Worker:
        # What listens does so once: in the first worker, which is never the one to go.
        roles = self._roles if number == 1 else self._roles & _FLOW
        spec = WorkerSpec(
            number=number,
            roles=tuple(sorted(roles)),
            config=self._config,
            environment=environment_of(number, self._settings.ops.metrics_port),
            stop_s=self._settings.ops.drain_timeout_s + KILL_AFTER_S,
            silent_s=self._settings.ops.drain_timeout_s + _HANGS_AFTER_S,
        )
        return Worker(spec, clock=self._clock, on_ended=on_ended)

    def _port(self, answers: SupervisorAnswers) -> OpsServer | None:
        ops = self._settings.ops
        if not ops.metrics_port:
            return None
        port = OpsServer(ops.metrics_host, ops.metrics_port, answers.answer)
        port.start()
        return port


def bounds_of(settings: Settings) -> Bounds:
    """Return the bounds that the settings name."""
    allocator = settings.allocator
    return Bounds(
        floor=Allocation(
            workers=allocator.workers_min, prefetch=allocator.prefetch_min, batch_max=allocator.batch_min
        ),
        ceiling=Allocation(
            workers=max(allocator.workers_min, allocator.workers_max or usable_cpus()),
            prefetch=allocator.prefetch_max,
            batch_max=allocator.batch_max,
        ),
        work_s=allocator.backlog_s,
        cpu_high=allocator.cpu_high,
        cpu_low=allocator.cpu_low,
        machine_high=allocator.machine_high,
        write_s=allocator.write_ms / 1000,
        grow_after_s=allocator.grow_after_s,
        shrink_after_s=allocator.shrink_after_s,
        settle_s=allocator.settle_s,
    )


def usable_cpus(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many CPUs this process may use: by its affinity, and by its group's quota (cgroup v2)."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        most, period = quota.read_text(encoding="ascii").split()
        return max(1, min(cpus, int(most) // int(period)))
    except (OSError, ValueError):  # none, or `max`
        return max(1, cpus)


def _order(allocation: Allocation, bottleneck: str, why: str) -> Order:
    return Order(
        prefetch=allocation.prefetch,
        batch_max=allocation.batch_max,
        workers=allocation.workers,
        bottleneck=bottleneck,
        why=why,
    )


async def _beat(answers: SupervisorAnswers, clock: Clock) -> None:
    while True:
        answers.beat()
        await clock.sleep(_BEAT_S)
