"""Faults while a phase lasts: begun with it, ended with it."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from loadtest.scenarios.parts import Accounting, Parts
from loadtest.scenarios.scenario import (
    Fault,
    LoadTestError,
    PartHeld,
    Phase,
    ServerKilled,
    ShardAdded,
    StandInFault,
)
from loadtest.scenarios.stand_ins import StandIns
from loadtest.scenarios.target import Target
from stack.launcher import StackConfig, up
from stack.state import ShardConfig

log = structlog.get_logger(__name__)

_MOVE_TIMEOUT_S = 600.0


class Injections:
    """Begins and ends faults. Mutable state: the changes of shards under way."""

    def __init__(
        self,
        *,
        target: Target,
        parts: Parts,
        accounting: Accounting,
        stand_ins: StandIns | None,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._target = target
        self._parts = parts
        self._accounting = accounting
        self._stand_ins = stand_ins
        self._folder = folder
        self._say = say
        self._changes: list[asyncio.subprocess.Process] = []

    async def begin(self, phase: Phase) -> None:
        """Let the faults of a phase begin. Raises LoadTestError, SinkError."""
        for fault in phase.faults:
            self._say(f"{phase.name}: {fault}")
            await self._begin(fault)

    async def end(self, phase: Phase) -> None:
        """Let them end; what is mended is there again on return. Raises LoadTestError, SinkError."""
        for fault in phase.faults:
            await self._end(fault)
            self._say(f"{phase.name}: over")

    async def _begin(self, fault: Fault) -> None:
        match fault:
            case StandInFault():
                await self._require_stand_ins().behave(fault.stand_in, fault.behaviour)
            case ServerKilled():
                self._kill(fault.server)
            case ShardAdded():
                self._changes.append(await self._add(fault.shard))
            case PartHeld():
                pass  # it was not started

    async def _end(self, fault: Fault) -> None:
        match fault:
            case StandInFault():
                await self._require_stand_ins().behave(fault.stand_in, {})
            case ServerKilled():
                await asyncio.to_thread(self._mend)
            case ShardAdded():
                await self._added()
            case PartHeld():
                if fault.part in self._parts.processes:
                    self._parts.start(fault.part)

    def _require_stand_ins(self) -> StandIns:
        if self._stand_ins is None:
            raise LoadTestError("there are no stand-ins to command: the target is not a local stack")
        return self._stand_ins

    def _kill(self, server: str) -> None:
        stack = self._target.stack
        pid = stack.pids.get(server) if stack else None
        if pid is None:
            raise LoadTestError(f"{server}: no such server of a local stack to kill")
        # PostgreSQL's children end by themselves when their parent is gone.
        os.kill(pid, signal.SIGKILL)

    def _mend(self) -> None:
        stack = self._target.stack
        assert stack is not None
        shards = tuple(ShardConfig(name=shard.name) for shard in stack.shards)
        up(StackConfig(data_dir=Path(stack.data_dir), shards=shards), lambda _text: None)
        self._accounting.refresh()

    async def _add(self, shard: str) -> asyncio.subprocess.Process:
        with (self._folder / "shards.log").open("wb") as output:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "consumers", "shards", "add", shard, "--yes"),
                *("--config", str(self._target.settings_file)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )

    async def _added(self) -> None:
        """Wait until the change is done. Raises LoadTestError."""
        change = self._changes.pop()
        try:
            async with asyncio.timeout(_MOVE_TIMEOUT_S):
                status = await change.wait()
        except TimeoutError:
            change.terminate()
            await change.wait()
            raise LoadTestError(
                f"the change of shards takes more than {_MOVE_TIMEOUT_S:g} s: see {self._folder}/shards.log"
            ) from None
        if status:
            raise LoadTestError(f"the change of shards failed: see {self._folder / 'shards.log'}")
