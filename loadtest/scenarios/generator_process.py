"""The generator as its parent sees it: started, told when to begin, watched, and asked what it did."""

import asyncio
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import numpy as np

from loadtest.scenarios.arrivals import Arrivals, Floats
from loadtest.scenarios.generator import Progress
from loadtest.scenarios.scenario import LoadTestError

START_IN_S = 1.0
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 90.0  # it waits a minute for confirms
_NOTHING = Progress(due=0, sent=0, confirmed=0, refused=0, late_s=0.0, blocked_s=0.0)


class Sent(NamedTuple):
    """What the generator did: UNIX times of leaving and of the broker's confirm, in the plan's order.

    Both may be shorter than the plan; NaN: not confirmed.
    """

    start: float
    sent_at: Floats
    confirmed_at: Floats
    blocked_s: float

    def lateness_s(self, arrivals: Arrivals) -> Floats:
        """Return how late each event left, in seconds."""
        late: Floats = self.sent_at - (self.start + arrivals.at_s[: len(self.sent_at)])
        return late

    @property
    def confirmed(self) -> int:
        """How many events the broker confirmed."""
        return int(np.count_nonzero(~np.isnan(self.confirmed_at)))


class GeneratorProcess:
    """A context manager. `progress` is what it said last; `ended` is set when it has."""

    def __init__(self, settings_file: Path, folder: Path, run: str, environment: Mapping[str, str]) -> None:
        self._settings_file = settings_file
        self._folder = folder
        self._run = run
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._start = 0.0
        self.log = folder / "generator.log"
        self.progress = _NOTHING
        self.ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        if self._reading is not None:
            await asyncio.wait([self._reading])

    @property
    def pid(self) -> int:
        """The process's pid."""
        assert self._process is not None, "not started"
        return self._process.pid

    async def prepare(self, arrivals: Arrivals) -> None:
        """Start it; return when it is connected and only waits. Raises LoadTestError."""
        plan = self._folder / "arrivals.npz"
        arrivals.save(plan)
        with self.log.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "loadtest.scenarios.generator",
                *map(str, (self._settings_file, plan, self._run, self._result)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=dict(self._environment),
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        if line.strip() != b"ready":
            raise LoadTestError(f"the load generator does not start: {self._why()}")

    async def begin(self) -> float:
        """Let it publish; return the run's start as UNIX time, a second from now."""
        assert self._process is not None, "not started"
        assert self._process.stdin is not None
        self._start = time.time() + START_IN_S
        self._process.stdin.write(f"{self._start!r}\n".encode())
        self._reading = asyncio.create_task(self._read())
        return self._start

    def stop(self) -> None:
        """End it early."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def result(self) -> Sent:
        """Return what it did, once it has ended. Raises LoadTestError."""
        assert self._process is not None, "not started"
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            raise LoadTestError(f"the load generator does not end: see {self.log}") from None
        try:
            with np.load(self._result, allow_pickle=False) as found:
                return Sent(
                    self._start, found["sent_at"], found["confirmed_at"], float(found["blocked_s"][0])
                )
        except (OSError, ValueError, KeyError) as error:
            raise LoadTestError(f"the load generator failed: {self._why()}") from error

    @property
    def failure(self) -> str:
        """Why it ended with an error; empty when it did not."""
        return self._why() if self._process is not None and self._process.returncode else ""

    @property
    def _result(self) -> Path:
        return self._folder / "sent.npz"

    def _why(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].removeprefix("loadtest generator: ") if lines else f"see {self.log}"

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.progress = msgspec.json.decode(line, type=Progress)
        self.ended.set()
