"""The pipeline's processes of a load test, one for each part, and what the machine spends on everything."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec
import psutil

from loadtest.cpu_account import CpuAccount, rss_mb
from loadtest.pipeline_process import PipelineProcess, PipelineProcessError
from loadtest.scenarios.scenario import Part, PartHeld, Scenario
from loadtest.scenarios.target import Target
from stack.launcher import status
from stack.ports import HOST, Reservations, choose_port
from stack.status import StackStatus

STAND_INS = ("twilio_emulator", "smtp_sink")
_SERVERS = ("rabbitmq", "-primary", "-replica", *STAND_INS)

WORKERS_MAX = 4
"""Workers of a part that an allocator runs, at most: each needs a port."""


class Parts:
    """The processes, each with its metrics port; a context manager. Mutable state: which of them run.

    Of an installation that ran already there are none.
    """

    def __init__(self, target: Target, scenario: Scenario, folder: Path) -> None:
        self._exits = ExitStack()
        held = {
            fault.part for phase in scenario.phases for fault in phase.faults if isinstance(fault, PartHeld)
        }
        self._allocated = scenario.allocated
        self._at_once = [part for part in scenario.parts if part not in held]
        self.ports: dict[Part, int] = {}
        self.processes: dict[Part, PipelineProcess] = {}
        self.running: dict[Part, PipelineProcess] = {}
        taken: set[int] = set()
        for part in scenario.parts if target.own else ():
            is_allocated = part in scenario.allocated
            self.ports[part] = port = _first_of_ports(1 + WORKERS_MAX if is_allocated else 1, taken)
            self.processes[part] = PipelineProcess(
                target.settings_file,
                folder / f"{part}.log",
                {**scenario.settings, "POSTORDER_OPS_METRICS_PORT": str(port)},
                ("--only", part.roles, *(("--workers", "auto") if is_allocated else ())),
            )

    def __enter__(self) -> Self:
        for part in self._at_once:
            if part in self.processes:
                self.start(part)
        return self

    def __exit__(self, *exception: object) -> None:
        self._exits.close()

    def start(self, part: Part) -> None:
        """Start a part that was held."""
        self.running[part] = self._exits.enter_context(self.processes[part])

    def check(self) -> None:
        """Raise PipelineProcessError when one has ended by itself."""
        for process in self.running.values():
            process.check()

    def failures(self) -> list[str]:
        """Return what became of those that ended by themselves, or badly when they were told to."""
        found = []
        for part, process in self.processes.items():
            try:
                process.check()
            except PipelineProcessError as error:
                found.append(f"{part}: {error}")
            if process.exit_status not in (None, 0):
                found.append(f"{part}: did not drain: status {process.exit_status}: see {process.log}")
        return found

    def stop(self) -> None:
        """Let all drain and end. Blocks; call it in a thread."""
        self._exits.close()

    @property
    def metrics_urls(self) -> list[str]:
        """Where the parts that run tell their metrics."""
        return [f"http://{HOST}:{self.ports[part]}/metrics" for part in self.running]

    @property
    def pages(self) -> list[str]:
        """Where all processes tell them: those of a part's workers too, of which not all may run."""
        workers = [
            f"http://{HOST}:{self.ports[part] + number}/metrics"
            for part in self._allocated
            if part in self.running
            for number in range(1, WORKERS_MAX + 1)
        ]
        return self.metrics_urls + workers


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds since the beginning, and memory in MB, by part; and of the whole machine."""

    cpu_s: dict[str, float]
    rss_mb: dict[str, float]
    machine_busy_s: float


class Accounting:
    """Who uses the machine. Mutable state: the sums, and what each process tree had used the last time."""

    def __init__(self, target: Target, parts: Parts) -> None:
        self._stack = target.stack
        self._parts = parts
        self._generator: int | None = None
        self._before: dict[str, float] = {}
        self._sum: dict[str, float] = {}
        self._pids: dict[str, int] = {}

    def watch_generator(self, pid: int) -> None:
        """Count the generator in."""
        self._generator = pid

    def refresh(self) -> None:
        """Look for servers that were started anew."""
        if self._stack is not None:
            self._stack = status(Path(self._stack.data_dir)) or self._stack

    def read(self) -> Usage:
        """Return what was used so far. Takes milliseconds: call it in a thread."""
        pids = self._groups()
        now = CpuAccount({name: [pid] for name, pid in pids.items()}).read()
        for name, seconds in now.items():
            before = self._before.get(name, 0.0) if self._pids.get(name) == pids[name] else 0.0
            first = name not in self._sum
            self._sum[name] = 0.0 if first else self._sum[name] + max(0.0, seconds - before)
            self._before[name] = seconds
        self._pids = pids
        return Usage(
            cpu_s={name: round(seconds, 3) for name, seconds in self._sum.items()},
            rss_mb={part: round(rss_mb(process.pid), 1) for part, process in self._parts.running.items()},
            machine_busy_s=_machine_busy_s(),
        )

    def _groups(self) -> dict[str, int]:
        groups: dict[str, int] = {"observer": os.getpid()}
        if self._generator is not None:
            groups["generator"] = self._generator
        groups |= {str(part): process.pid for part, process in self._parts.running.items()}
        return groups | _servers(self._stack)


def _servers(stack: StackStatus | None) -> dict[str, int]:
    pids = stack.pids if stack is not None else {}
    return {name: pid for name, pid in pids.items() if name.endswith(_SERVERS)}


def _machine_busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _first_of_ports(count: int, taken: set[int]) -> int:
    """Return a port after which there are as many free ones as are needed; all are then taken."""
    while True:
        first = choose_port("management", taken)
        others = range(first + 1, first + count)
        if taken.isdisjoint(others) and all(_PORTS.take(port) for port in others):
            taken.update(range(first, first + count))
            return first
        taken.add(first)


_PORTS = Reservations()
