"""The supervisor's side of one worker: a process, started again when it ends unasked."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import Process as Child
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import psutil
import structlog

import consumers
from consumers.allocator.messages import (
    LINE_BYTES_MAX,
    Order,
    WorkerTask,
    WorkerWord,
    read_line,
    send_line,
)
from pipeline.backoff import Backoff
from pipeline.clock import Clock

log = structlog.get_logger(__name__)

RESTART: Final = Backoff(base_s=0.5, ceiling_s=30.0)
_STEADY_S: Final = 60.0  # who ran for so long did not fail at the start
LOOK_S: Final = 5.0
_LOOKS: Final = 3  # a supervisor that was stopped itself reads what has come meanwhile first


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is started with. `environment`: over the supervisor's.

    `stop_s`: who was told to end and has not by then is killed. `silent_s`: so is who has spoken and says
    nothing any more for so long.
    """

    number: int
    roles: tuple[str, ...]
    config: Path
    environment: dict[str, str]
    stop_s: float
    silent_s: float = 60.0
    program: tuple[str, ...] = ("-m", "consumers.allocator.worker_main")


class Worker:
    """One place for a worker. `run` keeps a process in it until `stop`.

    Mutable state: `_child` and `_writer` (None while no process is there), `_psutil`, `_stopping`, `word`
    (its last one) and `heard_at_s`, `failures` in a row, `has_run` (some process of it has spoken), `status`
    (the last exit status).
    """

    def __init__(self, spec: WorkerSpec, *, clock: Clock, on_ended: Callable[["Worker"], None]) -> None:
        self.number = spec.number
        self._spec = spec
        self._clock = clock
        self._on_ended = on_ended
        self._child: Child | None = None
        self._psutil: psutil.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._stopping = asyncio.Event()
        self._order = Order()
        self.word: WorkerWord | None = None
        self.heard_at_s = float("-inf")
        self.failures = 0
        self.has_run = False
        self.status = 0

    def __repr__(self) -> str:
        return f"Worker({self.number}: pid {self.pid}, {self.failures} failures)"

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return self._child.pid if self._child is not None else None

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopping.is_set()

    async def run(self) -> None:
        """Keep a process running until told to stop; return when it has ended."""
        while not self._stopping.is_set():
            began_s = self._clock.monotonic()
            await self._run_once()
            if self._stopping.is_set():
                return
            lasted_s = self._clock.monotonic() - began_s
            self.failures = 1 if lasted_s >= _STEADY_S else self.failures + 1
            delay_s = RESTART.delay_s(self.failures)
            log.error("worker.ended", worker=self.number, status=self.status, retry_in_s=round(delay_s, 2))
            self._on_ended(self)
            await self._pause(delay_s)

    def order(self, order: Order) -> None:
        """Tell the process, now and each one that follows it."""
        self._order = order
        if self._writer is not None:
            send_line(self._writer, order)

    def stop(self) -> None:
        """Have the process drain; it is killed if it does not end in time."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self.order(Order(stop=True))

    def kill(self) -> None:
        """End the process at once. What it held comes again."""
        self._stopping.set()
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.kill()

    def cpu_s(self) -> float | None:
        """Return the CPU seconds that the process has used; None while there is none."""
        if self._psutil is None:
            return None
        try:
            times = self._psutil.cpu_times()
        except psutil.Error:
            return None
        return float(times.user + times.system)

    # --- one process ------------------------------------------------------------------------------------

    async def _run_once(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            child = await self._start(theirs)
        except OSError as error:
            log.error("worker.not_started", worker=self.number, error=error.strerror)
            ours.close()
            self.status = 1
            return
        finally:
            theirs.close()
        self._child, self._psutil = child, _process(child.pid)
        log.info("worker.started", worker=self.number, pid=child.pid)
        listening = asyncio.create_task(self._listen(ours))
        try:
            self.status = await self._until_ended(child)
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
            self._child = self._psutil = self._writer = self.word = None
            self.heard_at_s = float("-inf")

    async def _start(self, theirs: socket.socket) -> Child:
        spec = self._spec
        task = WorkerTask(
            number=spec.number,
            roles=spec.roles,
            config=str(spec.config),
            socket=theirs.fileno(),
            parent=os.getpid(),
        )
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *_flags(),
            *spec.program,
            msgspec.json.encode(task).decode(),
            env={**os.environ, **spec.environment},
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C is the supervisor's to pass on: two signals mean now
        )

    async def _until_ended(self, child: Child) -> int:
        """Return the exit status; kill the process if it hangs, or was told to stop and does not in time."""
        ending = asyncio.create_task(child.wait())
        try:
            stopping = asyncio.create_task(self._stopping.wait())
            hanging = asyncio.create_task(self._until_silent())
            await asyncio.wait({ending, stopping, hanging}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not hanging.cancel() and not ending.done():
                log.error("worker.hangs", worker=self.number, pid=child.pid)
                with suppress(ProcessLookupError):  # it ended by itself after all
                    child.kill()
            if not ending.done():
                await asyncio.wait({ending}, timeout=self._spec.stop_s)
            if not ending.done():
                log.error("worker.killed", worker=self.number, after_s=self._spec.stop_s)
                self.kill()
            return await ending
        except asyncio.CancelledError:
            self.kill()
            raise

    async def _until_silent(self) -> None:
        """Return when a process that has spoken must hang: nobody else looks at the health of a worker."""
        looks = 0
        while looks < _LOOKS:
            await self._clock.sleep(LOOK_S)
            silent_s = self._clock.monotonic() - self.heard_at_s
            looks = looks + 1 if self.word is not None and silent_s > self._spec.silent_s else 0

    async def _listen(self, ours: socket.socket) -> None:
        ours.setblocking(False)  # noqa: FBT003  # the library's signature
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_BYTES_MAX)
        try:
            send_line(self._writer, Order(stop=True) if self.is_stopping else self._order)
            while (line := await read_line(reader)) is not None:
                self._hear(line)
        finally:
            self._writer.close()

    def _hear(self, line: bytes) -> None:
        try:
            self.word = msgspec.json.decode(line, type=WorkerWord)
        except msgspec.MsgspecError as error:
            log.warning("worker.unreadable", worker=self.number, error=type(error).__name__)
        else:
            self.heard_at_s = self._clock.monotonic()
            self.has_run = True

    async def _pause(self, delay_s: float) -> None:
        sleeping = asyncio.create_task(self._clock.sleep(delay_s))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        sleeping.cancel()
        stopping.cancel()


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _flags() -> Sequence[str]:
    """Keep a folder named like ours in the working directory from being run instead, unless it is ours."""
    ours = Path(consumers.__file__).resolve().parents[1]
    return () if Path.cwd().resolve() == ours else ("-P",)


def environment_of(number: int, metrics_port: int) -> dict[str, str]:
    """Return what differs from worker to worker: the port of its metrics, when there is one."""
    return {"POSTORDER_OPS_METRICS_PORT": str(metrics_port + number)} if metrics_port else {}
