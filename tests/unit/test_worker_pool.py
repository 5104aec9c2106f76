"""The pool: never more than it has room for, nothing lost when it ends."""

import asyncio

import pytest

from pipeline.lifecycle import Tasks
from pipeline.notifications.pools.worker_pool import FixedCapacity, WorkerPool


def fail(name: str, error: BaseException) -> None:
    pytest.fail(f"{name}: {error}")


async def test_no_more_at_once_than_there_are_workers() -> None:
    done: list[int] = []
    most = 0

    async def work(claim) -> None:
        nonlocal most
        most = max(most, pool.busy)
        await asyncio.sleep(0)
        done.append(claim)

    pool = WorkerPool("sms", capacity=FixedCapacity(3), work=work, tasks=Tasks(fail))
    pool.start()
    for number in range(100):
        assert await pool.reserve(1) == 1
        pool.put(number)  # type: ignore[arg-type]  # the pool does not look into its claims
    await pool.finish()
    assert (sorted(done), most) == (list(range(100)), 3)
    assert pool.free == 6


async def test_room_is_counted_before_anything_is_claimed() -> None:
    gate = asyncio.Event()

    async def work(_claim) -> None:
        await gate.wait()

    pool = WorkerPool("sms", capacity=FixedCapacity(2), work=work, tasks=Tasks(fail))
    pool.start()
    assert [await pool.reserve(10), await pool.reserve(10)] == [2, 2]
    waiting = asyncio.create_task(pool.reserve(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    for number in range(3):
        pool.put(number)  # type: ignore[arg-type]
    pool.give_back(1)
    assert await asyncio.wait_for(waiting, 1) == 1
    gate.set()
    await pool.finish()


async def test_a_claim_waits_until_a_set_is_worth_it() -> None:
    """With 12 places, and many wanted: not for one that has come free, but for four."""
    gates = [asyncio.Event() for _ in range(12)]

    async def work(claim) -> None:
        await gates[claim].wait()

    pool = WorkerPool("sms", capacity=FixedCapacity(6), work=work, tasks=Tasks(fail))
    pool.start()
    assert [await pool.reserve(100), await pool.reserve(100)] == [6, 6]
    for number in range(12):
        pool.put(number)  # type: ignore[arg-type]
    many, few = asyncio.create_task(pool.reserve(100)), asyncio.create_task(pool.reserve(1))
    for number in range(3):
        gates[number].set()
        await asyncio.sleep(0.01)
    assert (many.done(), few.done()) == (False, True)
    for number in range(3, 5):
        gates[number].set()
        await asyncio.sleep(0.01)
    assert await asyncio.wait_for(many, 1) == 4
    for gate in gates:
        gate.set()
    await pool.finish()


async def test_a_drain_gives_back_what_no_worker_has_begun() -> None:
    gate = asyncio.Event()
    begun: list[int] = []

    async def work(claim) -> None:
        begun.append(claim)
        await gate.wait()

    pool = WorkerPool("sms", capacity=FixedCapacity(2), work=work, tasks=Tasks(fail))
    pool.start()
    await pool.reserve(2)
    await pool.reserve(2)
    for number in range(4):
        pool.put(number)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    untried = pool.take_waiting()
    finishing = asyncio.create_task(pool.finish())
    gate.set()
    await asyncio.wait_for(finishing, 1)
    assert sorted(begun + untried) == [0, 1, 2, 3]
    assert len(begun) == 2


class ChangingCapacity(FixedCapacity):
    """As many at once as a test says."""

    def __init__(self, now: int, ceiling: int) -> None:
        super().__init__(ceiling)
        self.now = now

    def workers(self) -> int:
        return self.now


async def test_it_follows_a_capacity_that_changes() -> None:
    gates = [asyncio.Event() for _ in range(8)]
    begun: list[int] = []

    async def work(claim) -> None:
        begun.append(claim)
        await gates[claim].wait()

    capacity = ChangingCapacity(1, 4)
    pool = WorkerPool("sms", capacity=capacity, work=work, tasks=Tasks(fail))
    pool.start()
    await asyncio.sleep(0)
    await pool.reserve(4)
    await pool.reserve(4)
    for number in range(8):
        pool.put(number)  # type: ignore[arg-type]

    async def begun_after_end_of(number: int, workers: int) -> int:
        capacity.now = workers
        gates[number].set()
        for _ in range(10):
            await asyncio.sleep(0)
        return len(begun)

    assert len(begun) <= 1
    assert await begun_after_end_of(0, 1) == 2
    assert await begun_after_end_of(1, 2) == 4
    assert await begun_after_end_of(2, 3) == 6
    assert await begun_after_end_of(3, 1) == 6  # two too many are at it: they end, and nobody begins
    assert await begun_after_end_of(4, 1) == 6
    assert await begun_after_end_of(5, 1) == 7
    for gate in gates:
        gate.set()
    await asyncio.wait_for(pool.finish(), 1)
    assert (sorted(begun), pool.busy, pool.free) == (list(range(8)), 0, 8)
