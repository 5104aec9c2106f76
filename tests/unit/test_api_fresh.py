"""Values that are read when somebody asks: shared, kept for a while, and not read again without a pause."""

import asyncio

import pytest
from virtual_clock import VirtualClock

from consumers.api.fresh import Fresh
from pipeline.clock import SystemClock


class Slow:
    """Takes so long to read. Says how often it was."""

    def __init__(self, clock: VirtualClock, takes_s: float) -> None:
        self.asked = 0
        self.takes_s = takes_s
        self._clock = clock

    async def read(self) -> int:
        self.asked += 1
        now = self.asked
        if self.takes_s:
            await self._clock.sleep(self.takes_s)
        return now


async def test_what_is_fresh_is_read_once_for_all() -> None:
    asked = 0
    go = asyncio.Event()

    async def read() -> int:
        nonlocal asked
        asked += 1
        await go.wait()
        return asked

    fresh = Fresh(read, age_s=60, clock=SystemClock())
    waiting = [asyncio.create_task(fresh.get()) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one who gives up breaks nothing off for the others
    go.set()
    assert set(await asyncio.gather(*waiting[1:])) == {1}
    assert await fresh.get() == 1
    await fresh.stop()


async def test_a_failure_is_kept_for_as_long() -> None:
    asked = 0

    async def read() -> int:
        nonlocal asked
        asked += 1
        raise ValueError(asked)

    fresh = Fresh(read, age_s=60, clock=SystemClock())
    for _ in range(3):
        with pytest.raises(ValueError, match="1"):
            await fresh.get()
    stale = Fresh(read, age_s=0, clock=SystemClock())
    for number in (2, 3):
        with pytest.raises(ValueError, match=str(number)):
            await stale.get()


async def test_a_reading_that_takes_longer_than_its_value_counts_is_followed_by_a_pause() -> None:
    clock = VirtualClock()
    slow = Slow(clock, 40)
    fresh = Fresh(slow.read, age_s=30, clock=clock)
    for asked in (1, 2):
        first = asyncio.create_task(fresh.get())
        await clock.pass_by(40)
        assert await first == asked
        await clock.pass_by(29)
        assert await fresh.get() == asked
        await clock.pass_by(1)
    assert slow.asked == 2


async def test_who_would_wait_too_long_gets_the_value_before_while_it_is_not_stale() -> None:
    clock = VirtualClock()
    slow = Slow(clock, 40)
    fresh = Fresh(slow.read, age_s=30, clock=clock, patience_s=0.01, stale_s=100)
    first = asyncio.create_task(fresh.get())  # there is none before: it waits
    await clock.pass_by(40)
    assert await first == 1
    await clock.pass_by(30)
    assert await fresh.get() == 1
    await clock.pass_by(40)
    assert await fresh.get() == 2
    assert slow.asked == 2
    await clock.pass_by(99)
    slow.takes_s = 0
    assert await fresh.get() == 3  # in time
    slow.takes_s = 40
    await clock.pass_by(100)
    late = asyncio.create_task(fresh.get())
    await asyncio.sleep(0.05)
    assert not late.done()  # what was before is too old
    await clock.pass_by(40)
    assert await late == 4
