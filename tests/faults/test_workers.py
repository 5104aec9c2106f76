"""`postorder run --workers N` on the real stack: shares the work, mends itself, drains, leaves nobody."""

import os
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import psutil
import pytest
from commands import postorder
from real_stack import Bench, order_event

from loadtest.pipeline_process import PipelineProcess

pytestmark = [
    pytest.mark.faults,
    pytest.mark.fault(3, "workers and their supervisor are ended, in every way", ["I28", "I29"]),
]

INTAKE = ("--only", "order-processed")


def logged(process: PipelineProcess, event: str) -> list[dict]:
    """Return the log lines of an event so far."""
    found = []
    for line in process.log.read_bytes().splitlines():
        if line.startswith(b"{") and line.endswith(b"}"):
            entry = orjson.loads(line)
            if entry["event"] == event:
                found.append(entry)
    return found


def consuming(process: PipelineProcess) -> dict[int, int]:
    """Return how often each worker has begun to consume orders."""
    numbers = [e["worker"] for e in logged(process, "amqp.consuming") if e["queue"] == "order-processed"]
    return {number: numbers.count(number) for number in numbers}


def pids(process: PipelineProcess) -> dict[int, int]:
    return {entry["worker"]: entry["pid"] for entry in logged(process, "worker.started")}


def when(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return condition()

    return holds


async def orders_stored(bench: Bench, count: int) -> None:
    async def stored() -> bool:
        found = await bench.rows("SELECT count(*) AS n FROM orders")
        return sum(row["n"] for row in found) == count

    await bench.until(stored, f"{count} orders stored")


async def test_a_killed_worker_is_replaced_nothing_is_lost_and_all_drain(
    bench: Bench, run_pipeline: Callable[..., PipelineProcess]
) -> None:
    with run_pipeline(*INTAKE, "--workers", "2") as process:
        await bench.until_true(when(lambda: consuming(process) == {1: 1, 2: 1}))
        first = pids(process)
        assert psutil.Process(first[1]).ppid() == process.pid
        await bench.publish(*(order_event(f"o-{number}") for number in range(40)))
        os.kill(first[1], signal.SIGKILL)
        await bench.publish(*(order_event(f"o-{number}") for number in range(40, 80)))
        await orders_stored(bench, 80)
        await bench.until_true(when(lambda: consuming(process) == {1: 2, 2: 1}))
        assert pids(process)[1] != first[1]
    assert process.exit_status == 0
    assert all(not psutil.pid_exists(pid) for pid in {*first.values(), *pids(process).values()})
    assert [entry["status"] for entry in logged(process, "worker.ended")] == [-signal.SIGKILL]
    assert len(logged(process, "drain.finished")) == 2
    assert (await bench.status()).accounting.balances


async def test_workers_drain_by_themselves_when_their_supervisor_is_killed(
    bench: Bench, run_pipeline: Callable[..., PipelineProcess]
) -> None:
    with run_pipeline(*INTAKE, "--workers", "2") as process:
        await bench.until_true(when(lambda: consuming(process) == {1: 1, 2: 1}))
        started = pids(process)
        process.stop(signal.SIGKILL)
        await bench.until_true(when(lambda: not any(psutil.pid_exists(pid) for pid in started.values())))
        assert len(logged(process, "drain.finished")) == 2


async def test_auto_starts_at_the_floor_turns_the_knobs_and_shows_what_it_does(
    bench: Bench, run_pipeline: Callable[..., PipelineProcess]
) -> None:
    """The window is more than is used, which is reason enough to halve it: in the worker, at the broker."""
    overrides = {
        "ALLOCATOR_SHRINK_AFTER_S": "0.5",
        "ALLOCATOR_SETTLE_S": "0.5",
        "ALLOCATOR_LOOK_EVERY_S": "0.2",
        "ALLOCATOR_PREFETCH_MIN": "1000",
    }
    with run_pipeline(*INTAKE, "--workers", "auto", **overrides) as process:
        await bench.until_true(
            when(lambda: [e["prefetch"] for e in logged(process, "worker.turned")][-2:] == [2000, 1000])
        )
        await bench.publish(*(order_event(f"o-{number}") for number in range(40)))
        await orders_stored(bench, 40)
        decided = logged(process, "allocator.decided")
    assert [(e["lever"], e["before"], e["after"]) for e in decided] == [
        ("prefetch", 4000, 2000),
        ("prefetch", 2000, 1000),
    ]
    assert all(re.fullmatch(r"\d+% of the prefetch is used", entry["reason"]) for entry in decided)
    assert process.exit_status == 0
    assert list(consuming(process)) == [1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--workers", "0"), "--workers: must be auto or a number from 1 to 64, not '0'"),
        (("--workers", "many"), "--workers: must be auto or a number from 1 to 64, not 'many'"),
        (("--only", "public", "--workers", "2"), "--workers: public listens on one port"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    settings_file: Path, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    done = postorder("run", "--config", str(settings_file), *arguments, cwd=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert problem in line
