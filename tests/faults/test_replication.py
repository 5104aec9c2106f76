"""A replica that is away, a redelivery, a failover: what was acknowledged is on the promoted server (F1)."""

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from real_stack import Bench, open_bench, order_event

from consumers.stack_settings import write_stack_settings
from consumers.status import queue_depths
from loadtest.pipeline_process import PipelineProcess
from pipeline.settings import load_settings
from pipeline.sharding.router import Router
from stack.launch import Launch
from stack.launcher import StackConfig, down, up
from stack.postgres import Pair
from stack.privileges import unprivileged_account
from stack.state import load_state

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

PROGRAM = str(Path(__file__).with_name("crashing.py"))
SHARD = "shard0"


def quiet(_text: str) -> None:
    pass


def kill_server(pid: int) -> None:
    server = psutil.Process(pid)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


@pytest.fixture
async def own_bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A stack of this test alone: it does not survive it."""
    folder = tmp_path / "stack"
    stack = up(StackConfig(data_dir=folder), quiet)
    settings = load_settings(write_stack_settings(stack, folder), {})
    try:
        async with open_bench(stack, settings) as bench:
            yield bench
    finally:
        down(folder, quiet)


def pair_of(folder: Path) -> Pair:
    state = load_state(folder)
    shard = next(shard for shard in state.shards if shard.name == SHARD)
    return Launch(folder, state, unprivileged_account(), quiet).pair(shard)


@pytest.mark.fault(25, "replica down, redelivery, primary killed, replica promoted", ["I2", "I11", "I21"])
@pytest.mark.parametrize("guarded", [True, False], ids=["with the barrier", "without the barrier"])
async def test_an_acknowledged_event_survives_the_failover(
    own_bench: Bench,
    tmp_path: Path,
    guarded: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """Without the ledger row, a batch of duplicates commits at once and the event is lost: checked too."""
    bench, folder = own_bench, tmp_path / "stack"
    router = Router(bench.cluster.shard_map)
    name = next(name for name in (f"o-{n}" for n in range(99)) if router.place(name).shard == SHARD)
    program = ("-m", "consumers") if guarded else (PROGRAM, "without_barrier:0")
    variables = {
        "POSTORDER_STORAGE_COMMAND_TIMEOUT_S": "1",
        "POSTORDER_READS_TIMEOUT_S": "0.5",  # together with the limit below, less than a statement's
        "POSTORDER_READS_LOSER_LIMIT_S": "0.2",
        "POSTORDER_INTAKE_PARK_AFTER_S": "1.5",
    }
    config = folder / "postorder.toml"
    with PipelineProcess(
        config, tmp_path / "log", variables, ("--only", "order-processed"), program
    ) as process:
        await bench.publish(order_event("first"))
        await bench.until_true(lambda: stored(bench, "first"))
        kill_server(bench.stack.pids[f"{SHARD}-replica"])
        await bench.publish(order_event(name))
        # The commit times out; then the row is there, on the primary alone, and the event is tried again.
        await bench.until_true(lambda: stored(bench, name))
        await bench.until_true(lambda: tried_again(process))
    kill_server(bench.stack.pids[f"{SHARD}-primary"])
    pair = pair_of(folder)
    pair._wait("replica", pair._start_server("replica"))
    pair.sql("replica", "SELECT pg_promote()")
    kept = await bench.rows("SELECT FROM orders WHERE order_id = $1", name, shard=SHARD, replica=True)
    waiting = sum(queue.messages for queue in await queue_depths(await bench.broker.channel()))
    assert len(kept) + waiting == (1 if guarded else 0), process.log.read_text()


async def stored(bench: Bench, order_id: str) -> bool:
    return bool(await bench.rows("SELECT FROM orders WHERE order_id = $1", order_id))


async def tried_again(process: PipelineProcess) -> bool:
    return "batch.write_failed" in process.log.read_text()
