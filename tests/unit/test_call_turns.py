"""Turns to call a provider: as many as it takes, in order, none lost, none waited for at the end."""

import asyncio

import pytest

from pipeline.errors import HeldBackError
from pipeline.notifications.pools.call_turns import CallTurns


class Calls:
    """Calls that take a turn and keep it until told to end."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.turns = CallTurns(lambda: self.limit)
        self.begun: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self, *numbers: int) -> None:
        for number in numbers:
            self.gates[number] = asyncio.Event()
            self.tasks[number] = asyncio.create_task(self._call(number))
        await settle()

    async def end(self, *numbers: int) -> None:
        for number in numbers:
            self.gates[number].set()
        await settle()

    async def _call(self, number: int) -> None:
        await self.turns.take()
        try:
            self.begun.append(number)
            await self.gates[number].wait()
        finally:
            self.turns.give_back()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_first_served_up_to_the_limit() -> None:
    calls = Calls(2)
    await calls.start(0, 1, 2, 3)
    assert calls.begun == [0, 1]
    await calls.end(1)
    assert calls.begun == [0, 1, 2]
    await calls.end(0, 2)
    assert (calls.begun, calls.turns.taken) == ([0, 1, 2, 3], 1)
    await calls.end(3)
    assert calls.turns.taken == 0


async def test_a_limit_that_rises_lets_more_begin_and_one_that_falls_fewer() -> None:
    calls = Calls(1)
    await calls.start(0, 1, 2, 3, 4, 5)
    calls.limit = 3
    await calls.end(0)
    assert calls.begun == [0, 1, 2, 3]
    calls.limit = 1
    await calls.end(1, 2)
    assert calls.begun == [0, 1, 2, 3]
    await calls.end(3)
    assert calls.begun == [0, 1, 2, 3, 4]
    await calls.end(4, 5)


async def test_whoever_is_cancelled_takes_no_turn_along() -> None:
    """While it waits, and in the moment in which the turn was given to it."""
    calls = Calls(1)
    await calls.start(0, 1, 2, 3)
    calls.tasks[1].cancel()
    await settle()
    calls.gates[0].set()
    await asyncio.sleep(0)
    calls.tasks[2].cancel()
    await settle()
    assert (calls.begun, calls.turns.taken) == ([0, 3], 1)
    await calls.end(3)
    assert calls.turns.taken == 0


async def test_at_the_end_nobody_waits() -> None:
    calls = Calls(1)
    await calls.start(0, 1, 2)
    calls.turns.close()
    await calls.start(3)
    for number in (1, 2, 3):
        with pytest.raises(HeldBackError, match="draining"):
            await calls.tasks[number]
    await calls.end(0)
    assert (calls.begun, calls.turns.taken) == ([0], 0)
