"""A failover under Patroni while slots move: what has not moved is copied anew, and nothing is missing."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from failover_load import missing, steady_load
from real_stack import Bench, open_bench

from consumers.resharding import carry_out, finished, open_moves, opened, resumed
from consumers.stack_settings import write_stack_settings
from loadtest.pipeline_process import PipelineProcess
from pipeline.errors import PostorderError
from pipeline.resharding.planning import planned_move
from pipeline.resharding.progress import Phase, Progress, nobody
from pipeline.resharding.throttle import Limits
from pipeline.resharding.verification import verify
from pipeline.settings import load_settings
from pipeline.storage.move_table import MoveState
from pipeline.storage.statements import MOVES
from stack.launcher import StackConfig, down, reset, status, up

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

RATE = 200.0
SLOTS = 200
ENDED_S = 60.0


def quiet(_text: str) -> None:
    pass


@pytest.fixture(scope="module")
def ha_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ha") / "stack"
    try:
        write_stack_settings(up(StackConfig(data_dir=folder, ha=True), quiet), folder)
        yield folder
    finally:
        down(folder, quiet)
        reset(folder, quiet)


@pytest.fixture
async def ha_bench(ha_folder: Path) -> AsyncIterator[Bench]:
    stack = up(StackConfig(data_dir=ha_folder, ha=True), quiet)
    async with open_bench(stack, load_settings(ha_folder / "postorder.toml", {})) as bench:
        yield bench


def kill_primary(folder: Path, shard: str) -> None:
    """Kill PostgreSQL and its Patroni, so that the other member has to take over."""
    found = status(folder)
    members = next(one.members for one in found.shards if one.name == shard)
    leader = next(one for one in members if one.role == "leader")
    processes = [psutil.Process(found.pids[leader.name]), psutil.Process(leader.pid)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


@pytest.mark.fault(38, "failover of source and of target during a move", ["I17", "I19", "I21"])
@pytest.mark.parametrize("victim", ["source", "target"])
async def test_failover_during_a_move(ha_bench: Bench, ha_folder: Path, tmp_path: Path, victim: str) -> None:
    settings = ha_bench.settings
    async with opened(settings) as cluster:
        shares = cluster.shard_map.shares()
    source = max(shares, key=shares.__getitem__)
    target = next(name for name in shares if name != source)
    flips = asyncio.Event()

    def report(progress: Progress) -> None:
        if progress.phase is Phase.FLIPPING:
            flips.set()

    plan = lambda cluster: planned_move(cluster, cluster.shard_map.slots_of(source)[:SLOTS], target)  # noqa: E731
    config, run = ha_folder / "postorder.toml", f"f-{victim}"
    with PipelineProcess(config, tmp_path / "log", {}, ("--only", "order-processed")) as process:
        async with steady_load(ha_bench, run, RATE) as load:
            await asyncio.sleep(2)  # so that there is something to move
            move = asyncio.create_task(carry_out(settings, plan, Limits(group_slots=4), report, finish=False))
            async with asyncio.timeout(60):
                await flips.wait()
            await asyncio.to_thread(kill_primary, ha_folder, source if victim == "source" else target)
            started = time.monotonic()
            await brought_to_an_end(ha_bench, move)
            ended_s = time.monotonic() - started
        await ha_bench.until_true(lambda: all_stored(ha_bench, run, load.confirmed), timeout_s=90)
        process.check()
    assert await missing(ha_bench, run, load.confirmed) == set()
    up(StackConfig(data_dir=ha_folder, ha=True), quiet)
    async with opened(settings) as cluster:
        assert (await verify(cluster)).problems == ()
    assert [row["name"] for row in await ha_bench.rows(MOVES["left_behind"])] == []
    assert ended_s < ENDED_S


async def brought_to_an_end(bench: Bench, move: asyncio.Task) -> None:
    """Let the coordinator go on by itself; do what an operator does if it gives up."""
    with suppress(PostorderError):
        await move
    async with asyncio.timeout(2 * ENDED_S):
        while True:
            with suppress(PostorderError):
                moves = await open_moves(bench.settings)
                if not moves:
                    return
                if any(move.state is not MoveState.MOVED for move in moves):
                    await resumed(bench.settings, Limits(), nobody, forward=True)
                await finished(bench.settings, Limits(), nobody)
            await asyncio.sleep(0.5)


async def all_stored(bench: Bench, run: str, count: int) -> bool:
    try:
        return not await missing(bench, run, count)
    except PostorderError:  # no primary at this moment
        return False
