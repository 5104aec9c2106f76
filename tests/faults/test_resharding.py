"""Coordinators of a move of slots that are killed, stopped or cancelled at each step."""

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from flow import Flow
from moving_shards import (
    Moving,
    check_all_once,
    check_calm,
    moving_flow,
    verified,
    writing,
)

from consumers.resharding import aborted, finished, open_moves, opened, resumed
from pipeline.resharding.planning import as_ranges
from pipeline.resharding.progress import nobody
from pipeline.resharding.throttle import Limits
from pipeline.storage.move_table import MoveState

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

PROGRAM = str(Path(__file__).with_name("moving.py"))
SLOTS = 40  # three groups
STEPS = range(1, 70, 4)  # a move with its end has about 65
FEWER_STEPS = range(2, 70, 7)
LIMITS = Limits()


@pytest.fixture
async def flow(moving: Moving) -> AsyncIterator[Flow]:
    async with moving_flow(moving) as running:
        yield running


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
