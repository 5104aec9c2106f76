"""Reads while the primary dies, while the replica takes over, and when the old primary comes back."""

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from reading import Writer, pair_of, quiet, reader_of
from real_stack import Bench, open_bench

from consumers.stack_settings import write_stack_settings
from pipeline.errors import PostorderError
from pipeline.reading.consistency import Consistency, Mode
from pipeline.settings import load_settings
from stack.launcher import StackConfig, down, up
from stack.process import Running, end

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

SHARD = "shard0"


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


def kill_server(pid: int) -> None:
    server = psutil.Process(pid)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


async def _role(reader, name: str, mode: Mode = Mode.HEDGED, **how) -> str:
    answer = await reader.order(name, mode=mode, **how)
    assert answer.value.order is not None, answer
    return answer.served[0].role


@pytest.mark.fault(20, "primary killed, replica answers, is promoted; the old primary comes back", ["I21"])
async def test_reads_follow_the_failover_and_never_go_back(own_bench: Bench, tmp_path: Path) -> None:
    bench, writer, pair = own_bench, Writer(own_bench), pair_of(tmp_path / "stack", SHARD)
    before, after = writer.names(SHARD, 2)
    await writer.order(before)
    async with reader_of(bench.settings) as reader:
        token = await reader.token(before)
        assert await _role(reader, before) in ("primary", "replica")

        kill_server(bench.stack.pids[f"{SHARD}-primary"])
        for mode in (Mode.HEDGED, Mode.RACE, Mode.REPLICA):
            assert await _role(reader, before, mode) == "replica"
        session = {"consistency": Consistency.SESSION, "after": [token]}
        assert await _role(reader, before, **session) == "replica"
        async with reader_of(bench.settings) as cold:
            assert await _role(cold, before) == "replica"

        pair.sql("replica", "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_promote()")
        for mode in (Mode.HEDGED, Mode.RACE, Mode.REPLICA):
            assert await _role(reader, before, mode) == "primary"
        dsn = next(shard.replica_dsn for shard in bench.stack.shards if shard.name == SHARD)
        writer.dsn = lambda _shard: dsn  # type: ignore[method-assign]
        await writer.order(after)

        revived: Running = pair._start_server("primary")
        try:
            pair._wait("primary", revived)
            # It answers, writable and without the new order; whoever knows of the promotion passes it over.
            assert not await bench.rows("SELECT FROM orders WHERE order_id = $1", after, shard=SHARD)
            async with reader_of(bench.settings) as cold:
                for asked in (reader, cold):
                    for mode in (Mode.HEDGED, Mode.RACE, Mode.REPLICA, Mode.PRIMARY):
                        try:
                            found = await asked.order(after, mode=mode)
                        except PostorderError:
                            continue  # refusing to answer is allowed; answering from the past is not
                        assert found.value.order is not None, mode
                assert await _role(cold, after) == "primary"
        finally:
            end(revived, timeout_s=20)
