"""Moves of slots that are killed, stopped or cancelled at each step; writers that sleep through a flip."""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
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
    drop_slot,
    interrupted_after,
    moving_shards,
    shard_databases,
    verified,
    writing,
)
from real_stack import order_event

from consumers.resharding import aborted, carry_out, finished, open_moves, opened, resumed
from loadtest.pipeline_process import PipelineProcess
from pipeline.resharding.planning import as_ranges, planned_add, planned_move
from pipeline.resharding.progress import Phase, Progress, nobody
from pipeline.resharding.throttle import Limits
from pipeline.sharding.router import Router
from pipeline.storage.move_table import MoveState
from stack.launcher import StackConfig, up
from stack.status import StackStatus

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

PROGRAM = str(Path(__file__).with_name("moving.py"))
SLOTS = 40  # three groups
STEPS = range(1, 70, 4)  # a move with its end has about 65
FEWER_STEPS = range(2, 70, 7)
LIMITS = Limits()


@pytest.fixture(scope="module")
def databases(stack: StackStatus, stack_folder: Path) -> Iterator[None]:
    with shard_databases(stack, stack_folder):
        yield


@pytest.fixture
async def moving(
    databases: None, stack: StackStatus, settings_file: Path, tmp_path: Path
) -> AsyncIterator[Moving]:
    async with moving_shards(stack, settings_file, tmp_path) as shards:
        yield shards


@pytest.fixture
async def flow(moving: Moving) -> AsyncIterator[Flow]:
    flow = Flow(moving.bench, park_after_s=10.0)
    moving.bench.cluster.on_map.append(flow.processor.resort)  # as the pipeline does
    await flow.processor.start()
    yield flow
    await flow.processor.stop()
    assert flow.crashes == []


async def coordinator(moving: Moving, where: str, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, where, "shards", *arguments, "--config", str(moving.config),
        stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE,
    )  # fmt: skip


async def next_move(moving: Moving) -> tuple[str, ...]:
    """The same slots to and fro between two shards: whichever of them has them."""
    async with opened(moving.settings) as cluster:
        shard_map = cluster.shard_map
    slots = [slot for slot, owner in enumerate(shard_map.owners) if owner in ("shard0", "shard1")][:SLOTS]
    here = shard_map.owners[slots[0]]
    slots = [slot for slot in slots if shard_map.owners[slot] == here]
    to = "shard1" if here == "shard0" else "shard0"
    return ("move", "--slots", as_ranges(slots), "--to", to, "--yes", "--finish")


async def until_stopped(process: Process) -> bool:
    """Wait until a process sleeps, or has ended without coming to its point."""
    async with asyncio.timeout(60):
        while process.returncode is None:
            with suppress(psutil.NoSuchProcess):  # it has ended, and the loop is told in a moment
                if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                    return True
            await asyncio.sleep(0.02)
    return False


async def end_change(moving: Moving, *, forward: bool) -> None:
    """Do what an operator does after an interruption. Raises nothing when there is nothing left to do."""
    moves = await open_moves(moving.settings)
    if not moves:
        return
    finishing = any(move.step == "finishing" for move in moves)
    if forward or finishing:
        if any(move.state is not MoveState.MOVED for move in moves):
            await resumed(moving.settings, LIMITS, nobody, forward=False)
        await finished(moving.settings, LIMITS, nobody)
    else:
        await aborted(moving.settings, LIMITS, nobody)


async def check_calm(moving: Moving) -> None:
    assert await open_moves(moving.settings) == ()
    assert await moving.links() == []
    found = await verified(moving)
    assert found.problems == ()


@pytest.mark.fault(36, "SIGKILL of the coordinator at every step of a move", ["I17", "I19", "I20"])
@pytest.mark.parametrize("forward", [True, False], ids=["resume", "abort"])
@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_killed_at_each_step(moving: Moving, flow: Flow, point: str, forward: bool) -> None:  # noqa: FBT001
    killed, steps = 0, STEPS if forward else FEWER_STEPS
    async with writing(flow) as orders:
        for nth in steps:
            process = await coordinator(moving, f"{point}:{nth}:SIGKILL", *await next_move(moving))
            _, said = await process.communicate()
            assert process.returncode in (0, -signal.SIGKILL), said.decode()
            killed += process.returncode != 0
            await end_change(moving, forward=forward)
            await check_calm(moving)
    await check_all_once(moving, orders)
    assert killed >= len(steps) * 2 // 3


@pytest.mark.fault(36, "SIGKILL of the coordinator while it begins", ["I17", "I19"])
@pytest.mark.parametrize("where", ["registered:1", "registered:2", "taken_over:1", "taken_over:2"])
async def test_killed_while_it_begins(moving: Moving, where: str) -> None:
    for forward in (True, False):
        process = await coordinator(moving, f"{where}:SIGKILL", *await next_move(moving))
        await process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert len(await open_moves(moving.settings)) == 1
        await end_change(moving, forward=forward)
        await check_calm(moving)


@pytest.mark.fault(36, "Ctrl-C of the coordinator at every step of a move", ["I17", "I19"])
async def test_cancelled_at_each_step(moving: Moving, flow: Flow) -> None:
    async with writing(flow) as orders:
        for number, nth in enumerate(STEPS):
            process = await coordinator(moving, f"before_commit:{nth}:SIGINT", *await next_move(moving))
            _, said = await process.communicate()
            assert process.returncode in (0, 130), said.decode()
            if process.returncode and await open_moves(moving.settings):
                assert "postorder shards resume" in said.decode()
            paused = await moving.bench.rows("SELECT slot FROM shard_slot WHERE state = 'leaving'")
            assert paused == []  # what was cancelled has ended its group first
            await end_change(moving, forward=number % 2 == 0)
            await check_calm(moving)
    await check_all_once(moving, orders)


@pytest.mark.fault(36, "SIGSTOP of the coordinator at every step; another takes over", ["I17", "I20"])
@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_stopped_and_replaced_at_each_step(moving: Moving, flow: Flow, point: str) -> None:
    async with writing(flow) as orders:
        for number, nth in enumerate(FEWER_STEPS):
            process = await coordinator(moving, f"{point}:{nth}:SIGSTOP", *await next_move(moving))
            if await until_stopped(process):
                was_busy = bool(await open_moves(moving.settings))
                await end_change(moving, forward=number % 2 == 0)
                epoch = (await verified(moving)).epoch
                process.send_signal(signal.SIGCONT)
                _, said = await process.communicate()
                assert process.returncode == was_busy, said.decode()
                assert (await verified(moving)).epoch == epoch
            await check_calm(moving)
    await check_all_once(moving, orders)


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


@pytest.mark.fault(37, "add and remove a shard while messages are sent", ["I12", "I17", "I19"])
async def test_no_message_is_sent_twice_because_its_order_moved(moving: Moving, tmp_path: Path) -> None:
    """Claims, receipts and pending messages move with their slots: each SMS and each mail leaves once."""
    orders = Publishing(moving)
    await moving.bench.twilio("behaviour", {"latency_ms": 200})
    settings = {"POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": "1"}
    with PipelineProcess(moving.config, tmp_path / "log", settings) as process:
        async with orders:
            for plan in (
                lambda cluster: planned_add(cluster, "shard2"),
                lambda cluster: planned_move(cluster, cluster.shard_map.slots_of("shard0")[:200], "shard1"),
            ):
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
