"""A supervisor and real processes: started again, drained, killed, never left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from consumers.allocator.messages import Order
from consumers.allocator.supervisor import Supervisor
from consumers.allocator.worker import LOOK_S, Worker, WorkerSpec, environment_of
from pipeline.clock import SystemClock
from pipeline.observability.registry import MetricRegistry
from pipeline.observability.supervisor_metrics import SupervisorMetrics

DOUBLE = str(Path(__file__).parents[1] / "worker_double.py")


class HurriedClock(SystemClock):
    """Waits, but not long. Keeps how long it was asked to."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.waits_s.append(delay_s)
        await asyncio.sleep(min(delay_s, 0.02))


class Crew:
    """Workers that run the double. `notes` are what each has written."""

    def __init__(self, folder: Path, **plan: Any) -> None:
        self.folder = folder
        self.clock = HurriedClock()
        self.config = folder / "plan.json"
        self.stop_s = 5.0
        self.silent_s = 60.0
        self.plan(**plan)
        self.metrics = SupervisorMetrics(MetricRegistry())
        self.supervisor = Supervisor(self.worker, self.metrics)

    def plan(self, **plan: Any) -> None:
        self.config.write_text(json.dumps({"folder": str(self.folder), **plan}))

    def worker(self, number: int, on_ended: Callable[[Worker], None]) -> Worker:
        spec = WorkerSpec(
            number=number,
            roles=("order-processed",),
            config=self.config,
            environment=environment_of(number, 9000),
            stop_s=self.stop_s,
            silent_s=self.silent_s,
            program=(DOUBLE,),
        )
        return Worker(spec, clock=self.clock, on_ended=on_ended)

    def notes(self, number: int = 1) -> list[dict[str, Any]]:
        path = self.folder / f"worker-{number}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def starts(self, number: int = 1) -> list[dict[str, Any]]:
        return [note for note in self.notes(number) if "started" in note]

    def orders(self, number: int = 1) -> list[dict[str, Any]]:
        return [note["order"] for note in self.notes(number) if "order" in note]

    def pids(self) -> list[int]:
        return [note["pid"] for number in range(1, 9) for note in self.starts(number)]

    async def until_speaking(self, count: int) -> list[Worker]:
        await until(
            lambda: sum(w.word is not None for w in self.supervisor.workers) == count, f"{count} speak"
        )
        return self.supervisor.workers

    async def end(self) -> int:
        ending = asyncio.create_task(self.supervisor.until_stopped())
        os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.wait_for(ending, 10)


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    made = Crew(tmp_path)
    yield made
    for pid in made.pids():
        assert not psutil.pid_exists(pid), f"{pid} was left behind"


async def test_each_worker_has_a_port_and_an_order_and_drains_when_the_supervisor_is_told(crew: Crew) -> None:
    crew.supervisor.start(2, Order(prefetch=7))
    await crew.until_speaking(2)
    assert [crew.starts(number)[0]["port"] for number in (1, 2)] == ["9001", "9002"]
    await until(lambda: bool(crew.orders(2)), "the order")
    assert crew.orders(2)[0]["prefetch"] == 7
    assert await crew.end() == 0
    assert [crew.notes(number)[-1]["ended"] for number in (1, 2)] == ["told to", "told to"]


async def test_a_worker_that_ends_is_started_again_and_told_the_last_order(crew: Crew) -> None:
    crew.supervisor.start(2, Order(prefetch=7))
    first, second = await crew.until_speaking(2)
    crew.supervisor.set(2, Order(prefetch=9))
    assert first.pid
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: len(crew.starts(1)) == 2 and bool(first.word), "the next one")
    await until(lambda: crew.orders(1)[-1]["prefetch"] == 9, "the last order")
    assert len(crew.starts(2)) == 1
    assert crew.metrics.restarts._value.get() == 1
    assert second.failures == 0
    assert await crew.end() == 0


async def test_one_that_fails_again_and_again_is_tried_less_and_less(tmp_path: Path) -> None:
    crew = Crew(tmp_path, status=1)
    crew.supervisor.start(1, Order())
    [worker] = crew.supervisor.workers
    await until(lambda: worker.failures >= 6, "failures")
    bounds = [0.5, 1, 2, 4, 8, 16]
    waits_s = [wait_s for wait_s in crew.clock.waits_s if wait_s != LOOK_S]
    assert all(wait <= bound for wait, bound in zip(waits_s, bounds, strict=False))
    assert max(waits_s) > 0.5
    assert await crew.end() == 1


async def test_one_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    crew = Crew(tmp_path, hangs=True)
    crew.silent_s = 0.5
    crew.supervisor.start(1, Order())
    [worker] = await crew.until_speaking(1)
    crew.silent_s, before = 60.0, worker.pid
    crew.plan()
    await until(lambda: len(crew.starts()) == 2, "the next one")
    assert worker.status == -signal.SIGKILL
    assert not psutil.pid_exists(before)
    await crew.until_speaking(1)
    assert await crew.end() == 0


async def test_settings_that_no_worker_can_use_end_everything_with_their_own_status(tmp_path: Path) -> None:
    crew = Crew(tmp_path, status=2)
    crew.supervisor.start(2, Order())
    assert await asyncio.wait_for(crew.supervisor.until_stopped(), 10) == 2
    assert len(crew.starts(1)) == 1


async def test_settings_that_went_wrong_later_end_nobody_who_runs(crew: Crew) -> None:
    crew.supervisor.start(2, Order())
    first, second = await crew.until_speaking(2)
    crew.plan(status=2)
    assert first.pid
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: first.failures >= 3, "failures")
    assert second.word is not None
    crew.plan()
    await until(lambda: first.word is not None, "a worker that runs again")
    assert await crew.end() == 0


async def test_fewer_workers_the_last_one_drains_and_more_come_back_on_the_same_port(crew: Crew) -> None:
    crew.supervisor.start(3, Order())
    await crew.until_speaking(3)
    crew.supervisor.set(2, Order())
    await until(lambda: crew.notes(3)[-1].get("ended") == "told to", "the third one's end")
    assert [worker.number for worker in crew.supervisor.workers] == [1, 2]
    crew.supervisor.set(3, Order())
    await crew.until_speaking(3)
    assert [note["port"] for note in crew.starts(3)] == ["9003", "9003"]
    assert len(crew.starts(1)) == 1
    assert await crew.end() == 0


async def test_who_does_not_end_in_time_is_killed_and_that_is_no_clean_end(tmp_path: Path) -> None:
    crew = Crew(tmp_path, deaf=True)
    crew.stop_s = 0.2
    crew.supervisor.start(1, Order())
    await crew.until_speaking(1)
    assert await crew.end() == 1
    assert "ended" not in crew.notes(1)[-1]
    assert not psutil.pid_exists(crew.starts(1)[0]["pid"])


PROGRAM = """
import asyncio, sys
from pathlib import Path
from test_supervisor import Crew, Order
from pipeline.observability.logging import configure_logging

configure_logging("info", "json")

async def main(folder, plan):
    crew = Crew(Path(folder), **plan)
    crew.supervisor.start(2, Order())
    await crew.until_speaking(2)
    print("up", flush=True)
    return await crew.supervisor.until_stopped()

sys.exit(asyncio.run(main(sys.argv[1], eval(sys.argv[2]))))
"""


@contextmanager
def supervising(folder: Path, **plan: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor of two workers, in a process of its own."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), repr(plan)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()


def until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 5
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers were left behind"
        time.sleep(0.02)


def test_workers_of_a_supervisor_that_was_killed_end_by_the_end_of_their_socket(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    with supervising(tmp_path) as process:
        process.kill()
        process.wait()
        until_gone(crew.pids())
    assert [crew.notes(number)[-1]["ended"] for number in (1, 2)] == ["alone", "alone"]


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    with supervising(tmp_path, deaf=True) as process:
        process.send_signal(signal.SIGTERM)
        while sum(order["stop"] for number in (1, 2) for order in crew.orders(number)) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 128 + signal.SIGTERM
        until_gone(crew.pids())


def test_the_kernel_ends_a_process_whose_parent_ends() -> None:
    child = (
        "import os, time\n"
        "from consumers.allocator.lifeline import end_with\n"
        "assert end_with(os.getppid())\nassert not end_with(1)\nprint(os.getpid(), flush=True)\n"
        "time.sleep(60)"
    )
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.kill()
        until_gone([pid])


def test_workers_come_and_go_while_a_scrape_counts_them() -> None:
    """The ops port's thread counts; here the second worker goes as soon as the first was looked at."""
    registry = MetricRegistry()
    metrics = SupervisorMetrics(registry)
    running: dict[str, Any] = Supervisor(Crew.worker, metrics)._running  # type: ignore[arg-type]

    class Seen:
        @property
        def word(self) -> object:
            running.pop("second", None)
            return object()

    running |= {"first": Seen(), "second": Seen()}
    page, _ = registry.page("")
    assert b'postorder_allocator_workers{state="running"} 2.0' in page
