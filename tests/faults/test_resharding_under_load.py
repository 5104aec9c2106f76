"""Moves of slots while other things break: writers that sleep, old maps, primaries that crash, lost links."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import psutil
import pytest
from flow import Flow
from moving_shards import (
    Interruption,
    Moving,
    add_few,
    check_all_once,
    check_calm,
    drop_slot,
    interrupted_after,
    moving_flow,
    verified,
    writing,
)
from real_stack import order_event

from consumers.resharding import carry_out, finished, resumed
from loadtest.pipeline_process import PipelineProcess
from pipeline.resharding.planning import planned_add, planned_move, planned_remove
from pipeline.resharding.progress import Phase, Progress, nobody
from pipeline.resharding.throttle import Limits
from pipeline.sharding.router import Router
from stack.launcher import StackConfig, up
from stack.status import StackStatus

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

PROGRAM = str(Path(__file__).with_name("moving.py"))
LIMITS = Limits()


@pytest.fixture
async def flow(moving: Moving) -> AsyncIterator[Flow]:
    async with moving_flow(moving) as running:
        yield running


@pytest.mark.fault(39, "a writer stopped before its transaction, over the flip", ["I20"])
@pytest.mark.parametrize("guard", ["", ":unguarded"], ids=["with the fence", "without the fence"])
async def test_a_writer_that_slept_through_the_flip(moving: Moving, tmp_path: Path, guard: str) -> None:
    """Without the fence the order ends where its slot no longer is: checked too."""
    router = Router(moving.bench.cluster.shard_map)
    name = next(name for name in (f"o-{n}" for n in range(99)) if router.place(name).shard == "shard0")
    program = (PROGRAM, f"before_write:1:SIGSTOP{guard}")
    log = tmp_path / "log"
    with PipelineProcess(moving.config, log, {}, ("--only", "order-processed"), program) as process:
        await moving.bench.publish(order_event(name))
        stopped = psutil.Process(process.pid)
        async with asyncio.timeout(20):
            while stopped.status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110  # another process's state
                await asyncio.sleep(0.02)
        plan = lambda cluster: planned_move(cluster, [router.place(name).slot], "shard1")  # noqa: E731
        await carry_out(moving.settings, plan, LIMITS, nobody, finish=True)
        stopped.send_signal(signal.SIGCONT)
        count = "SELECT count(*) AS orders FROM orders"

        async def stored() -> bool:
            return sum(row["orders"] for row in await moving.bench.rows(count)) > 0

        await moving.bench.until_true(stored)
    where = {shard: await moving.rows_of(shard, "orders") for shard in ("shard0", "shard1")}
    assert where == ({"shard0": 1, "shard1": 0} if guard else {"shard0": 0, "shard1": 1}), log.read_text()


@pytest.mark.fault(40, "half of the fleet keeps the old map", ["I17", "I20"])
async def test_a_process_with_the_old_map_finds_out(moving: Moving, tmp_path: Path) -> None:
    """Started before the third shard was in the settings; what it must send there it finds by them then."""
    count = 400
    with PipelineProcess(moving.two, tmp_path / "log", {}, ("--only", "order-processed")) as process:
        await moving.bench.publish(*(order_event(f"o-{number}") for number in range(count // 2)))
        moving.two.write_text(moving.config.read_text())
        plan = lambda cluster: planned_add(cluster, "shard2")  # noqa: E731
        await carry_out(moving.settings, plan, LIMITS, nobody, finish=True)
        await moving.bench.publish(*(order_event(f"o-{number}") for number in range(count // 2, count)))

        async def stored() -> bool:
            return len(await moving.order_ids()) >= count

        await moving.bench.until_true(stored)
        process.check()
    assert sorted(await moving.order_ids()) == sorted(f"o-{number}" for number in range(count))
    assert (await verified(moving)).problems == ()


CHANGES = {
    "add and move": (
        lambda cluster: planned_add(cluster, "shard2"),
        lambda cluster: planned_move(cluster, cluster.shard_map.slots_of("shard0")[:200], "shard1"),
    ),
    "remove": (lambda cluster: planned_remove(cluster, "shard1"),),
}


@pytest.mark.fault(37, "add and remove a shard while messages are sent", ["I12", "I17", "I19"])
@pytest.mark.parametrize("change", CHANGES)
async def test_no_message_is_sent_twice_because_its_order_moved(
    moving: Moving, tmp_path: Path, change: str
) -> None:
    """Claims, receipts and pending messages move with their slots: each SMS and each mail leaves once."""
    orders = Publishing(moving)
    await moving.bench.twilio("behaviour", {"latency_ms": 200})
    settings = {"POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": "1"}
    with PipelineProcess(moving.config, tmp_path / "log", settings) as process:
        async with orders:
            for plan in CHANGES[change]:
                await carry_out(moving.settings, plan, LIMITS, nobody, finish=True)
        await moving.bench.until_quiet(len(orders.names), timeout_s=60)
        process.check()
    sent = (await moving.bench.twilio("messages?limit=10000"))["messages"]
    numbers = [message["to"] for message in sent]
    assert sorted(numbers) == sorted(orders.phones)
    assert (await verified(moving)).problems == ()
    states = await moving.bench.rows("SELECT state, count(*)::int AS messages FROM outbox GROUP BY state")
    assert {row["state"] for row in states} == {"accepted"}
    assert (await moving.bench.status()).accounting.effects_difference == 0


class Publishing:
    """Orders published at a rate inside the block, each to a number of its own."""

    def __init__(self, moving: Moving) -> None:
        self._moving = moving
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.names: list[str] = []
        self.phones: list[str] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        while not self._stopping:
            number = len(self.names)
            self.names.append(f"o-{number}")
            self.phones.append(f"+1415555{number:04d}")
            customer = {"id": "c", "name": "Ada", "email": f"a{number}@example.com", "phone": self.phones[-1]}
            await self._moving.bench.publish(order_event(self.names[-1], customer=customer))

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        assert self._task is not None
        await self._task


@pytest.mark.fault(38, "SIGKILL of source or target primary during a move", ["I17", "I19", "I21"])
@pytest.mark.parametrize("victim", ["shard0", "shard1"])
async def test_a_primary_that_crashes_during_a_move(
    moving: Moving, stack: StackStatus, stack_folder: Path, victim: str
) -> None:
    """It restarts with its data; the coordinator waits for it and goes on by itself."""
    flips = asyncio.Event()

    def report(progress: Progress) -> None:
        if progress.phase is Phase.FLIPPING:
            flips.set()

    plan = lambda cluster: planned_move(cluster, cluster.shard_map.slots_of("shard0")[:300], "shard1")  # noqa: E731
    move = asyncio.create_task(carry_out(moving.settings, plan, LIMITS, report, finish=True))
    async with asyncio.timeout(60):
        await flips.wait()
    now = up(StackConfig(data_dir=stack_folder), lambda _text: None)
    server = psutil.Process(now.pids[f"{victim}-primary"])
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)
    started = time.monotonic()
    await asyncio.to_thread(up, StackConfig(data_dir=stack_folder), lambda _text: None)
    outcome = await move
    assert time.monotonic() - started < 60
    assert outcome.differences.is_clean
    await check_calm(moving)


@pytest.mark.fault(38, "a replication slot that a failover lost", ["I17", "I19"])
@pytest.mark.parametrize("flips", [0, 1], ids=["before the first flip", "after some flips"])
async def test_a_link_that_was_lost_is_made_anew(moving: Moving, flow: Flow, flips: int) -> None:
    """As after a failover of the source. What is deleted on the target for it must not travel back."""
    async with writing(flow) as orders:
        with pytest.raises(Interruption):
            await carry_out(moving.settings, add_few, Limits(), interrupted_after(flips), finish=False)
        [link] = [link for link in await moving.links() if link.startswith("slot postorder_move_")]
        await drop_slot(moving, link.split()[1])
        await resumed(moving.settings, Limits(), nobody, forward=False)
        held = await verified(moving)
        assert held.problems == ()
        await finished(moving.settings, Limits(), nobody)
    await check_all_once(moving, orders)
