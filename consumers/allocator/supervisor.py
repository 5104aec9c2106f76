"""Keeps workers running: starts them, starts them again, has them drain, and leaves none behind."""

import asyncio
import os
import signal
from collections.abc import Callable

import structlog

from consumers.allocator.messages import USAGE_ERROR, Order
from consumers.allocator.worker import Worker
from pipeline.observability.readiness import Cause
from pipeline.observability.supervisor_metrics import SupervisorMetrics

log = structlog.get_logger(__name__)


class Supervisor:
    """The workers by number, from 1, and those that were told to end and have not yet.

    `new_worker` makes the worker of a number. Mutable state: `_workers`, `_running` (a task for each, leaving
    ones too), `_order` (what each is told), `_stopping`, `_status`.
    """

    def __init__(
        self, new_worker: Callable[[int, Callable[[Worker], None]], Worker], metrics: SupervisorMetrics
    ) -> None:
        self._new_worker = new_worker
        self._metrics = metrics
        self._workers: dict[int, Worker] = {}
        self._running: dict[asyncio.Task[None], Worker] = {}
        self._order = Order()
        self._stopping = asyncio.Event()
        self._status = 0
        metrics.workers.labels("running").set_function(self._count_up)
        metrics.workers.labels("wanted").set_function(lambda: len(self._workers))

    def __repr__(self) -> str:
        return f"Supervisor({len(self._workers)} workers, {len(self._running)} processes)"

    @property
    def workers(self) -> list[Worker]:
        """The workers that are to run."""
        return list(self._workers.values())

    def start(self, workers: int, order: Order) -> None:
        """Have so many workers, each told the order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        self.set(workers, order)

    def set(self, workers: int, order: Order) -> None:
        """Have so many workers from now on: new ones come, or the last ones drain and end."""
        if self._stopping.is_set():
            return
        self._order = order
        while len(self._workers) > workers:
            _, leaving = self._workers.popitem()
            log.info("worker.leaving", worker=leaving.number)
            leaving.stop()
        for worker in self._workers.values():
            worker.order(order)
        while len(self._workers) < workers:
            self._add(len(self._workers) + 1)

    async def until_stopped(self) -> int:
        """Return the exit status when every worker has ended after a signal. 0: all drained."""
        await self._stopping.wait()
        for worker in self._workers.values():
            worker.stop()
        if self._running:
            await asyncio.wait(self._running)
        log.info("supervisor.stopped", status=self._status)
        return self._status

    def kill(self) -> None:
        """End every worker at once."""
        for worker in self._running.values():
            worker.kill()

    def _add(self, number: int) -> None:
        worker = self._new_worker(number, self._on_ended)
        worker.order(self._order)
        self._workers[number] = worker
        task = asyncio.create_task(self._run(worker), name=f"worker {number}")
        self._running[task] = worker
        task.add_done_callback(self._forget)

    async def _run(self, worker: Worker) -> None:
        for earlier in [task for task, other in self._running.items() if other.number == worker.number]:
            if earlier is not asyncio.current_task():
                await asyncio.wait({earlier})  # it still drains, on the same port
        await worker.run()
        self._status = self._status or int(worker.status != 0)

    def causes(self) -> list[Cause]:
        """Return why this is not ready: which workers have not spoken. May be called by any thread."""
        if self._stopping.is_set():
            return [Cause("draining", "told to stop: workers finish what they have")]
        silent = [worker.number for worker in list(self._workers.values()) if worker.word is None]
        return [Cause("starting", "this worker has not spoken yet", f"worker {number}") for number in silent]

    def on_task_ended(self, task: asyncio.Task[None]) -> None:
        """Stop everything when a task died that has to go on."""
        if not task.cancelled() and (error := task.exception()):
            log.critical("task.crashed", task=task.get_name(), exc_info=error)
            self._stop(1)

    def _forget(self, task: asyncio.Task[None]) -> None:
        worker = self._running.pop(task)
        if not task.cancelled() and task.exception():
            worker.kill()
        self.on_task_ended(task)

    def _on_ended(self, worker: Worker) -> None:
        """Note that a worker ended unasked. One that cannot use the settings at all is not tried again."""
        self._metrics.restarts.inc()
        if worker.status == USAGE_ERROR and not any(each.has_run for each in self._workers.values()):
            self._stop(USAGE_ERROR)

    def _on_signal(self, number: int) -> None:
        if self._stopping.is_set():
            log.warning("supervisor.killing", signal=signal.Signals(number).name)
            self.kill()
            os._exit(128 + number)
        log.info("supervisor.stopping", signal=signal.Signals(number).name)
        self._stopping.set()

    def _stop(self, status: int) -> None:
        self._status = self._status or status
        self._stopping.set()

    def _count_up(self) -> int:
        # Called by the ops port's thread: workers come and go meanwhile.
        return sum(worker.word is not None for worker in list(self._running.values()))
