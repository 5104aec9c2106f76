"""Pairs under Patroni: primaries killed, hung, switched over. What was acknowledged is there; writes go on.

Each test puts steady load on both shards, breaks one of them, and asks afterwards: is every event there once,
how long did the broken shard take no writes, and did the other keep its rate.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from failover_drill import (
    BROKEN,
    Drill,
    api_of,
    keep_logs,
    kill,
    member,
    patroni_pid,
    quiet,
    ready,
    up_again,
)
from hung_servers import hanging
from real_stack import Bench, open_bench

from consumers.stack_settings import write_stack_settings
from loadtest.pipeline_process import PipelineProcess
from pipeline.errors import PostorderError
from pipeline.settings import Settings, load_settings
from pipeline.storage.node import Node
from stack.launcher import StackConfig, down, reset, status, up
from stack.status import MemberEndpoints

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

RESUME_S = 30.0
SWITCHOVER_S = 10.0
REJOIN_S = 60.0
REPORT = Path("var/faults/failover.json")


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
    holding = hanging(*pids)

    async def break_it() -> None:
        holding.__enter__()

    with intake() as process:
        try:
            await drill.under_load(break_it, RESUME_S)
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
