"""Lanes: what goes in comes out once, in order, in batches that say what closed them."""

import asyncio

import pytest

from pipeline.ingest.batcher import Batcher, Item, Lane, Trigger

NEVER_S = 60.0


def item(number: int) -> Item:
    return Item(number, None)  # type: ignore[arg-type]  # a lane does not look into its items


def numbers(batch) -> list[int]:
    return [item.row for item in batch.items]


async def test_a_full_batch_does_not_linger() -> None:
    lane = Lane(batch_max=3, linger_s=NEVER_S)
    for number in range(7):
        lane.add(item(number))
    first, second = await lane.next_batch(), await lane.next_batch()
    assert (numbers(first), first.trigger) == ([0, 1, 2], Trigger.SIZE)
    assert (numbers(second), second.trigger) == ([3, 4, 5], Trigger.SIZE)
    assert len(lane) == 1


async def test_a_small_batch_is_closed_by_the_linger_time() -> None:
    lane = Lane(batch_max=100, linger_s=0.001)
    lane.add(item(1))
    batch = await lane.next_batch()
    assert (numbers(batch), batch.trigger) == ([1], Trigger.TIMEOUT)


async def test_a_waiting_collector_is_released_by_the_event_that_fills_the_batch() -> None:
    lane = Lane(batch_max=2, linger_s=NEVER_S)
    collecting = asyncio.create_task(lane.next_batch())
    await asyncio.sleep(0)
    lane.add(item(1))
    lane.add(item(2))
    batch = await asyncio.wait_for(collecting, 1)
    assert (numbers(batch), batch.trigger) == ([1, 2], Trigger.SIZE)


async def test_closing_flushes_what_is_left_and_ends_every_collector() -> None:
    lane = Lane(batch_max=100, linger_s=NEVER_S)
    lane.add(item(1))
    collectors = [asyncio.create_task(lane.next_batch()) for _ in range(3)]
    await asyncio.sleep(0)
    lane.close()
    found = await asyncio.wait_for(asyncio.gather(*collectors), 1)
    assert [batch.trigger for batch in found if batch] == [Trigger.FLUSH]
    assert [numbers(batch) for batch in found if batch] == [[1]]
    assert await lane.next_batch() is None


@pytest.mark.parametrize("collectors", [1, 3])
async def test_with_several_collectors_nothing_is_lost_doubled_or_out_of_order(collectors: int) -> None:
    lane = Lane(batch_max=10, linger_s=0.0005)
    found: list[list[int]] = []

    async def collect() -> None:
        while (batch := await lane.next_batch()) is not None:
            found.append(numbers(batch))

    tasks = [asyncio.create_task(collect()) for _ in range(collectors)]
    for number in range(500):
        lane.add(item(number))
        if number % 7 == 0:
            await asyncio.sleep(0)
    lane.close()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert [number for batch in found for number in batch] == list(range(500))
    assert all(1 <= len(batch) <= 10 for batch in found)


async def test_a_slow_shard_fills_its_own_lane_only() -> None:
    batcher = Batcher(["a", "b"], batch_max=2, linger_s=NEVER_S)
    for number in range(4):
        batcher.lanes["a"].add(item(number))
    batcher.lanes["b"].add(item(9))
    assert (len(batcher), len(batcher.lanes["a"]), len(batcher.lanes["b"])) == (5, 4, 1)
    assert numbers(await batcher.lanes["a"].next_batch()) == [0, 1]


async def test_a_smaller_batch_is_handed_out_at_once_when_enough_wait() -> None:
    lane = Lane(batch_max=10, linger_s=NEVER_S)
    for number in range(5):
        lane.add(item(number))
    collecting = asyncio.create_task(lane.next_batch())
    await asyncio.sleep(0)
    lane.set_batch_max(2)
    batch = await asyncio.wait_for(collecting, 1)
    assert (numbers(batch), batch.trigger) == ([0, 1], Trigger.SIZE)
    assert numbers(await asyncio.wait_for(lane.next_batch(), 1)) == [2, 3]


async def test_a_larger_batch_waits_for_company_again() -> None:
    lane = Lane(batch_max=2, linger_s=NEVER_S)
    for number in range(3):
        lane.add(item(number))
    lane.set_batch_max(4)
    collecting = asyncio.create_task(lane.next_batch())
    await asyncio.sleep(0)
    assert not collecting.done()
    lane.add(item(3))
    assert numbers(await asyncio.wait_for(collecting, 1)) == [0, 1, 2, 3]


async def test_after_a_change_of_size_closing_still_flushes() -> None:
    lane = Lane(batch_max=10, linger_s=NEVER_S)
    lane.add(item(1))
    lane.close()
    lane.set_batch_max(100)
    batch = await asyncio.wait_for(lane.next_batch(), 1)
    assert (numbers(batch), batch.trigger) == ([1], Trigger.FLUSH)
    assert await lane.next_batch() is None


async def test_the_size_is_that_of_every_lane_that_is_or_comes() -> None:
    batcher = Batcher(["a"], batch_max=10, linger_s=NEVER_S)
    batcher.set_batch_max(1)
    lanes = [batcher.lanes["a"], batcher.add_lane("b")]
    for lane in lanes:
        lane.add(item(1))
        assert numbers(await asyncio.wait_for(lane.next_batch(), 1)) == [1]
    assert batcher.batch_max == 1
