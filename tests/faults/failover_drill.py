"""Pairs under Patroni for drills: who is what, what can be done to them, and the verdict on one fault."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from failover_load import events_between, missing, steady_load, stored, write_gap_s
from real_stack import Bench

from pipeline.errors import PostorderError
from stack.launcher import StackConfig, status, up
from stack.patroni_api import PatroniApi
from stack.state import load_state
from stack.status import MemberEndpoints, StackStatus

BROKEN, OTHER = "shard0", "shard1"
RATE = 400.0  # events/s over both shards
CALM = timedelta(seconds=8)
LOGS = Path("var/faults/failover-logs")


def quiet(_text: str) -> None:
    pass


def keep_logs(folder: Path) -> None:
    """Keep what Patroni and PostgreSQL said, for who wants to know why."""
    state = load_state(folder)
    LOGS.mkdir(parents=True, exist_ok=True)
    for log in Path(state.server_dir).glob("shard*/*/patroni.log") if state else ():
        shutil.copyfile(log, LOGS / f"{log.parents[1].name}-{log.parent.name}.log")


def up_again(folder: Path) -> StackStatus:
    """Start what does not run; return when every pair has a primary and a replica that streams."""
    return up(StackConfig(data_dir=folder, ha=True), quiet)


def member(folder: Path, role: str, shard: str = BROKEN) -> MemberEndpoints:
    found = status(folder)
    members = next(one.members for one in found.shards if one.name == shard)
    return next(one for one in members if one.role in role.split("|"))


def patroni_pid(folder: Path, name: str) -> int:
    return status(folder).pids[name]


def kill(*pids: int) -> None:
    processes = [psutil.Process(pid) for pid in pids]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


class Drill:
    """One fault under load, and the verdict."""

    def __init__(self, bench: Bench, folder: Path, run: str) -> None:
        self.bench = bench
        self.folder = folder
        self._run = run
        self.gap_s = 0.0
        self.kept = 0.0

    async def under_load(self, break_it: Callable[[], Awaitable[None]], limit_s: float) -> None:
        """Load, fault, load until writes have gone on for a while; then check every event."""
        bench = self.bench
        async with steady_load(bench, self._run, RATE) as load:
            await bench.until_true(lambda: self._stored(int(RATE * 2)), 30)
            calm_from = datetime.now(UTC)
            await asyncio.sleep(CALM.total_seconds())
            broken_at = datetime.now(UTC)
            await break_it()
            await asyncio.sleep(3.0)  # so that the two seconds looked at begin after the fault
            await bench.until_true(self._writes_go_on, limit_s + 10)
            back_at = datetime.now(UTC)
            await asyncio.sleep(2.0)
        await bench.until_true(lambda: self._stored(load.confirmed), 90)
        assert await missing(bench, self._run, load.confirmed) == set()
        self.gap_s = await write_gap_s(bench, BROKEN, broken_at)
        calm = (
            await events_between(bench, OTHER, calm_from, broken_at) / (broken_at - calm_from).total_seconds()
        )
        broken = (
            await events_between(bench, OTHER, broken_at, back_at) / (back_at - broken_at).total_seconds()
        )
        self.kept = broken / calm
        assert self.gap_s <= limit_s
        assert self.kept >= 0.9

    async def _stored(self, count: int) -> bool:
        try:
            return len(await stored(self.bench, self._run)) >= count
        except PostorderError:  # no primary at this moment
            return False

    async def _writes_go_on(self) -> bool:
        """Whether the shard has taken writes in each of the last two seconds."""
        now = datetime.now(UTC)
        try:
            return all(
                [
                    await events_between(
                        self.bench, BROKEN, now - timedelta(seconds=age + 1), now - timedelta(seconds=age)
                    )
                    for age in (0, 1)
                ]
            )
        except PostorderError:  # as above
            return False


async def ready(folder: Path) -> bool:
    found = await asyncio.to_thread(status, folder)
    roles = [sorted(one.role for one in shard.members) for shard in found.shards]
    streaming = all(one.state in ("running", "streaming") for shard in found.shards for one in shard.members)
    return streaming and all(pair == ["leader", "sync_standby"] for pair in roles)


def api_of(folder: Path, one: MemberEndpoints) -> PatroniApi:
    state = load_state(folder)
    return PatroniApi(one.name, state.ports[f"{one.name}-api"], state.secrets["patroni"])
