"""Pairs under Patroni: primaries killed, hung, switched over. What was acknowledged is there; writes go on.

Each test puts steady load on both shards, breaks one of them, and asks afterwards: is every event there once,
how long did the broken shard take no writes, and did the other keep its rate.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from failover_load import events_between, missing, steady_load, stored, write_gap_s
from real_stack import Bench, open_bench

from consumers.stack_settings import write_stack_settings
from loadtest.pipeline_process import PipelineProcess
from pipeline.errors import PostorderError
from pipeline.settings import Settings, load_settings
from pipeline.storage.node import Node
from stack.launcher import StackConfig, down, reset, status, up
from stack.patroni_api import PatroniApi
from stack.state import load_state
from stack.status import MemberEndpoints, StackStatus

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

BROKEN, OTHER = "shard0", "shard1"
RATE = 400.0  # events/s over both shards
RESUME_S = 30.0
SWITCHOVER_S = 10.0
REJOIN_S = 60.0
REPORT = Path("var/faults/failover.json")
LOGS = Path("var/faults/failover-logs")
CALM = timedelta(seconds=8)


def quiet(_text: str) -> None:
    pass


@pytest.fixture(scope="module")
def ha_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ha") / "stack"
    try:
        write_stack_settings(up(StackConfig(data_dir=folder, ha=True), quiet), folder)
        yield folder
    finally:
        keep_logs(folder)
        down(folder, quiet)
        reset(folder, quiet)


def keep_logs(folder: Path) -> None:
    """Keep what Patroni and PostgreSQL said, for who wants to know why."""
    state = load_state(folder)
    LOGS.mkdir(parents=True, exist_ok=True)
    for log in Path(state.server_dir).glob("shard*/*/patroni.log") if state else ():
        shutil.copyfile(log, LOGS / f"{log.parents[1].name}-{log.parent.name}.log")


def up_again(folder: Path) -> StackStatus:
    """Start what does not run; return when every pair has a primary and a replica that streams."""
    return up(StackConfig(data_dir=folder, ha=True), quiet)


@pytest.fixture
def ha_settings(ha_folder: Path) -> Settings:
    up_again(ha_folder)
    return load_settings(ha_folder / "postorder.toml", {})


@pytest.fixture
async def ha_bench(ha_folder: Path, ha_settings: Settings) -> AsyncIterator[Bench]:
    async with open_bench(up_again(ha_folder), ha_settings) as bench:
        yield bench


@pytest.fixture
def intake(ha_folder: Path, tmp_path: Path) -> Callable[[], PipelineProcess]:
    """Return a function that runs the intake of this stack."""

    def run() -> PipelineProcess:
        only = ("--only", "order-processed,invoice-generated")
        return PipelineProcess(ha_folder / "postorder.toml", tmp_path / "pipeline.log", {}, only)

    return run


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


@contextmanager
def held(*pids: int) -> Iterator[None]:
    processes = [
        found
        for pid in pids
        for found in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


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


@pytest.fixture
def drill(ha_bench: Bench, ha_folder: Path, request: pytest.FixtureRequest) -> Iterator[Drill]:
    made = Drill(ha_bench, ha_folder, request.node.originalname.removeprefix("test_")[:20])
    yield made
    measured = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    measured[request.node.name] = {
        "write_gap_s": round(made.gap_s, 2),
        "other_shard_kept": round(made.kept, 3),
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(measured, indent=2) + "\n")


async def ready(folder: Path) -> bool:
    found = await asyncio.to_thread(status, folder)
    roles = [sorted(one.role for one in shard.members) for shard in found.shards]
    streaming = all(one.state in ("running", "streaming") for shard in found.shards for one in shard.members)
    return streaming and all(pair == ["leader", "sync_standby"] for pair in roles)


@pytest.mark.fault(19, "kill -9 of a primary's postmaster", ["I1", "I21", "I22", "I23"])
async def test_a_primary_is_killed(drill: Drill, ha_bench: Bench, ha_folder: Path, intake) -> None:
    async def break_it() -> None:
        kill(member(ha_folder, "leader").pid)

    with intake() as process:
        await drill.under_load(break_it, RESUME_S)
        process.check()
    await ha_bench.until_true(lambda: ready(ha_folder), REJOIN_S)


@pytest.mark.fault(20, "kill -9 of a primary and its Patroni; it rejoins", ["I1", "I21", "I22", "I23"])
async def test_a_primary_and_its_patroni_are_killed(
    drill: Drill, ha_bench: Bench, ha_folder: Path, intake
) -> None:
    before = member(ha_folder, "leader")

    async def break_it() -> None:
        kill(patroni_pid(ha_folder, before.name), before.pid)

    with intake() as process:
        await drill.under_load(break_it, RESUME_S)
        process.check()
    after = member(ha_folder, "leader")
    assert (after.name, after.timeline) != (before.name, before.timeline)
    await asyncio.to_thread(up_again, ha_folder)
    await ha_bench.until_true(lambda: ready(ha_folder), REJOIN_S)
    assert member(ha_folder, "sync_standby").name == before.name


@pytest.mark.fault(21, "planned switchover", ["I1", "I21", "I22", "I23"])
@pytest.mark.parametrize("turn", range(5))
async def test_a_switchover(drill: Drill, ha_bench: Bench, ha_folder: Path, intake, turn: int) -> None:
    before, candidate = member(ha_folder, "leader"), member(ha_folder, "sync_standby")

    async def break_it() -> None:
        await asyncio.to_thread(api_of(ha_folder, before).switch_over, before.name, candidate.name)

    with intake() as process:
        await drill.under_load(break_it, SWITCHOVER_S)
        process.check()
    assert member(ha_folder, "leader").name == candidate.name
    await ha_bench.until_true(lambda: ready(ha_folder), REJOIN_S)


def api_of(folder: Path, one: MemberEndpoints) -> PatroniApi:
    state = load_state(folder)
    return PatroniApi(one.name, state.ports[f"{one.name}-api"], state.secrets["patroni"])


@pytest.mark.fault(23, "a primary's Patroni hangs; another is promoted beside it", ["I1", "I20", "I21"])
async def test_two_primaries_at_once(drill: Drill, ha_bench: Bench, ha_folder: Path, intake) -> None:
    """The old one still says that it is the primary. Its commits wait for a replica that has left."""
    before = member(ha_folder, "leader")

    async def break_it() -> None:
        process = psutil.Process(patroni_pid(ha_folder, before.name))
        process.suspend()
        await ha_bench.until_true(lambda: promoted(ha_folder, before), 60)

    with intake() as process:
        try:
            await drill.under_load(break_it, RESUME_S)
        finally:
            psutil.Process(patroni_pid(ha_folder, before.name)).resume()
        process.check()
    await ha_bench.until_true(lambda: ready(ha_folder), REJOIN_S)
    assert member(ha_folder, "sync_standby").name == before.name


async def promoted(folder: Path, before: MemberEndpoints) -> bool:
    found = await asyncio.to_thread(status, folder)
    members = next(one.members for one in found.shards if one.name == BROKEN)
    return any(one.role == "leader" and one.name != before.name for one in members)


@pytest.mark.fault(24, "a primary hangs, with all its connections open", ["I1", "I21", "I22", "I23"])
async def test_a_primary_hangs(drill: Drill, ha_bench: Bench, ha_folder: Path, intake) -> None:
    before = member(ha_folder, "leader")
    pids = (patroni_pid(ha_folder, before.name), before.pid)
    holding = held(*pids)

    async def break_it() -> None:
        holding.__enter__()

    with intake() as process:
        try:
            await drill.under_load(break_it, RESUME_S + 5)
        finally:
            holding.__exit__(None, None, None)
        process.check()
    await ha_bench.until_true(lambda: ready(ha_folder), REJOIN_S)


@pytest.mark.fault(21, "planned switchover", ["I1", "I21", "I22", "I23"])
async def test_no_connection_to_a_demoted_primary_is_used_again(
    ha_bench: Bench, ha_folder: Path, ha_settings: Settings
) -> None:
    """Four pooled connections, a switchover, and then nothing but the new primary (F7)."""
    before, candidate = member(ha_folder, "leader"), member(ha_folder, "sync_standby")
    shard = ha_settings.shards[0]
    node = Node(f"{shard.name} primary", shard.primary, shard.password, ha_settings.storage)
    await node.open()
    try:
        assert set(await asyncio.gather(*(port_of(node) for _ in range(4)))) == {port(before)}
        await asyncio.to_thread(api_of(ha_folder, before).switch_over, before.name, candidate.name)
        await ha_bench.until_true(lambda: leads_to(node, port(candidate)), SWITCHOVER_S)
        await ha_bench.until_true(lambda: ready(ha_folder), REJOIN_S)
        assert set(await asyncio.gather(*(port_of(node) for _ in range(8)))) == {port(candidate)}
    finally:
        await node.close()


def port(one: MemberEndpoints) -> int:
    return int(one.dsn.rpartition(":")[2].partition("/")[0])


async def port_of(node: Node) -> int:
    """Write, and return where."""
    async with node.connection() as connection, connection.transaction():
        await connection.execute("SELECT pg_logical_emit_message(true, 'tests', '')")
        return await connection.fetchval("SELECT inet_server_port()")


async def leads_to(node: Node, wanted: int) -> bool:
    try:
        return await port_of(node) == wanted
    except PostorderError:
        return False
