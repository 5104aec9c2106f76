"""A failover by hand: the replica is promoted, the old primary comes back to a process with old settings."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from failover_load import missing
from real_stack import Bench, open_bench, order_event

from consumers.settings_file import make_replica_primary
from consumers.stack_settings import write_stack_settings
from consumers.status import queue_depths
from loadtest.pipeline_process import PipelineProcess
from pipeline.errors import StorageUnavailableError
from pipeline.settings import StorageSettings, load_settings
from pipeline.storage.node import Node
from pipeline.storage.promotion import promote
from stack.launch import Launch
from stack.launcher import StackConfig, down, reset, up
from stack.postgres import Pair
from stack.privileges import unprivileged_account
from stack.state import load_state

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

SHARD = "shard0"
FAST = {
    "POSTORDER_STORAGE_COMMAND_TIMEOUT_S": "1",
    "POSTORDER_READS_TIMEOUT_S": "0.5",  # together with the limit below, less than a statement's
    "POSTORDER_READS_LOSER_LIMIT_S": "0.2",
    "POSTORDER_INTAKE_PARK_AFTER_S": "1.5",
}
INTAKE = ("--only", "order-processed")
EVENTS = 60


def quiet(_text: str) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stack"


@pytest.fixture
async def own_bench(folder: Path) -> AsyncIterator[Bench]:
    """A stack of this test alone: it does not survive it."""
    stack = up(StackConfig(data_dir=folder), quiet)
    settings = load_settings(write_stack_settings(stack, folder), {})
    try:
        async with open_bench(stack, settings) as bench:
            yield bench
    finally:
        down(folder, quiet)
        reset(folder, quiet)


def pair_of(folder: Path) -> Pair:
    state = load_state(folder)
    shard = next(shard for shard in state.shards if shard.name == SHARD)
    return Launch(folder, state, unprivileged_account(), quiet).pair(shard)


def kill_server(pid: int) -> None:
    server = psutil.Process(pid)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def events(run: str) -> list[dict]:
    return [order_event(f"{run}-{number}") for number in range(EVENTS)]


async def orders(dsn: str, run: str) -> set[str]:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        rows = await connection.fetch("SELECT order_id FROM orders WHERE order_id LIKE $1", f"{run}-%")
        return {row["order_id"] for row in rows}
    finally:
        await connection.close()


def of_shard(bench: Bench, run: str) -> set[str]:
    names = [f"{run}-{number}" for number in range(EVENTS)]
    return {name for name in names if bench.cluster.router.place(name).shard == SHARD}


async def waiting(bench: Bench) -> int:
    return sum(queue.messages for queue in await queue_depths(await bench.broker.channel()))


async def check_all_there(bench: Bench, folder: Path, *runs: str) -> None:
    """With the settings of now: every event of the runs once, and the shard's on its new primary."""
    settings = load_settings(folder / "postorder.toml", {})
    primary = settings.shards[0].primary.replace("@", f":{settings.shards[0].password}@")
    with PipelineProcess(folder / "postorder.toml", folder / "new.log", FAST, INTAKE):

        async def all_there() -> bool:
            found = [await orders(primary, run) == of_shard(bench, run) for run in runs]
            return all(found) and not await waiting(bench)

        await bench.until_true(all_there, 60)
    other = bench.stack.shards[1].primary_dsn
    for run in runs:
        everywhere = [*await orders(primary, run), *await orders(other, run)]
        assert sorted(everywhere) == sorted(f"{run}-{number}" for number in range(EVENTS))


@pytest.mark.fault(
    55,
    "failover by hand; the old primary comes back to a process with old settings",
    ["I1", "I2", "I3", "I20", "I21"],
)
async def test_nothing_written_to_the_old_primary_is_acknowledged(own_bench: Bench, folder: Path) -> None:
    bench, config = own_bench, folder / "postorder.toml"
    old = bench.stack.shards[0]
    with PipelineProcess(config, folder / "stale.log", FAST, INTAKE) as stale:
        await bench.publish(*events("before"))
        await bench.until_true(lambda: stored(bench, "before"))
        kill_server(bench.stack.pids[f"{SHARD}-primary"])
        done = await promote(bench.settings.shards[0], StorageSettings(), primary_is_dead=True)
        assert (done.timeline, done.fenced) == (2, False)
        make_replica_primary(config, SHARD)
        pair = pair_of(folder)
        pair._wait("primary", pair._start_server("primary"))
        await bench.publish(*events("after"))
        # It writes to the old primary again and again, and each commit times out.
        await bench.until_true(lambda: in_log(stale, "shard.away"), 30)
        stale.check()
        assert await orders(old.replica_dsn, "before") == of_shard(bench, "before")
        assert await orders(old.replica_dsn, "after") == set()
        await bench.until_true(lambda: all_wait(bench), 30)
    await check_all_there(bench, folder, "before", "after")


async def all_wait(bench: Bench) -> bool:
    return await waiting(bench) == len(of_shard(bench, "after"))


async def stored(bench: Bench, run: str) -> bool:
    return not await missing(bench, run, EVENTS)


async def in_log(process: PipelineProcess, text: str) -> bool:
    return text in process.log.read_text()


@pytest.mark.fault(56, "orderly change of primary by hand, under load", ["I1", "I2", "I3", "I20", "I21"])
async def test_an_orderly_change_and_the_new_replica(own_bench: Bench, folder: Path) -> None:
    bench, config = own_bench, folder / "postorder.toml"
    old = bench.stack.shards[0]
    with PipelineProcess(config, folder / "stale.log", FAST, INTAKE) as stale:
        await bench.publish(*events("before"))
        await bench.until_true(lambda: stored(bench, "before"))
        publishing = asyncio.create_task(bench.publish(*events("during")))
        done = await promote(bench.settings.shards[0], StorageSettings())
        assert (done.timeline, done.fenced) == (2, True)
        make_replica_primary(config, SHARD)
        await publishing
        await bench.publish(*events("after"))
        await bench.until_true(lambda: in_log(stale, "shard.away"), 30)
        with pytest.raises(StorageUnavailableError, match="takes no writes"):
            await Node(f"{SHARD} primary", old.primary_dsn, "", StorageSettings()).open()
        again = await promote(bench.settings.shards[0], StorageSettings())  # as after a kill half-way
        assert again == done
    await check_all_there(bench, folder, "before", "during", "after")
    now = await asyncio.to_thread(up, StackConfig(data_dir=folder), quiet)
    assert (now.shards[0].primary_dsn, now.shards[0].replica_dsn) == (old.replica_dsn, old.primary_dsn)
    assert await orders(now.shards[0].replica_dsn, "after") == of_shard(bench, "after")
    assert (Path(load_state(folder).server_dir) / SHARD / "superseded/PG_VERSION").exists()
    connection = await asyncpg.connect(now.shards[0].primary_dsn, timeout=5)
    assert await connection.fetchval("SELECT sync_state FROM pg_stat_replication") == "sync"
    await connection.close()
