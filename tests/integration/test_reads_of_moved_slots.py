"""Reads of slots that change hands: the owner is found, nothing is shown twice, and nothing is missed."""

from collections.abc import AsyncIterator

import pytest
from moving_shards import NEW, Moving, add_few
from reading import Writer, reader_of
from real_stack import Bench

from consumers.command import find_shard_in
from consumers.resharding import carry_out, opened
from pipeline.errors import ShardMapError
from pipeline.reading.consistency import Mode
from pipeline.reading.order_reader import OrderReader
from pipeline.resharding.progress import nobody
from pipeline.resharding.throttle import Limits
from pipeline.settings import Settings, load_settings
from pipeline.sharding.slots import slot_of
from pipeline.storage.cluster import Cluster

pytestmark = pytest.mark.integration


@pytest.fixture
def writer(bench: Bench) -> Writer:
    return Writer(bench)


@pytest.fixture
async def reader(bench: Bench, settings: Settings) -> AsyncIterator[OrderReader]:
    async with reader_of(settings) as opened:
        yield opened


async def test_the_shard_that_owns_the_slot_now_is_found(
    reader: OrderReader, writer: Writer, bench: Bench
) -> None:
    name = writer.name()
    slot = slot_of(name)
    await writer.order(name)
    await reader.order(name)
    try:
        await move(writer, slot, "shard0", "shard1", epoch=2)
        await writer.run("shard1", _COPY_OF_ORDER, name)
        for mode in Mode:
            answer = await reader.order(name, mode=mode)
            assert (answer.served[0].shard, answer.value.is_empty) == ("shard1", False)
        assert (await reader.customer("moved")).value.orders[0].order_id == name
    finally:
        await move(writer, slot, "shard1", "shard0", epoch=1)


_COPY_OF_ORDER = """
INSERT INTO orders (slot, order_id, customer_id, currency, total, lines, processed_at, event_source, event_id)
VALUES (slot_of($1), $1, 'moved', 'EUR', 74.40, '[]', now(), '/t', $1)"""


async def move(writer: Writer, slot: int, source: str, target: str, epoch: int) -> None:
    await writer.run(source, "DELETE FROM shard_slot WHERE slot = $1", slot)
    await writer.run(target, "INSERT INTO shard_slot (slot, epoch) VALUES ($1, $2)", slot, epoch)


async def test_rows_that_only_arrive_are_not_shown(reader: OrderReader, writer: Writer) -> None:
    name = writer.name()
    slot = slot_of(name)
    await writer.order(name, "c-9")
    try:
        await writer.run(
            "shard1", "INSERT INTO shard_slot (slot, epoch, state) VALUES ($1, 2, 'arriving')", slot
        )
        await writer.run("shard1", _COPY_OF_ORDER, name)
        assert (await reader.customer("moved")).value.orders == []
        assert len((await reader.customer("c-9")).value.orders) == 1
        assert (await reader.order(name)).served[0].shard == "shard0"
    finally:
        await writer.run("shard1", "DELETE FROM shard_slot WHERE slot = $1", slot)


async def test_a_slot_that_nobody_owns_is_an_error_not_an_absence(
    reader: OrderReader, writer: Writer
) -> None:
    name = writer.name()
    slot = slot_of(name)
    try:
        await writer.run("shard0", "DELETE FROM shard_slot WHERE slot = $1", slot)
        with pytest.raises(ShardMapError, match=f"slot {slot}"):
            await reader.order(name)
        with pytest.raises(ShardMapError, match="own 4095 slots"):
            await reader.invoice("inv-1")
    finally:
        await writer.run("shard0", "INSERT INTO shard_slot (slot, epoch) VALUES ($1, 1)", slot)


# --- in a process that runs for long ------------------------------------------------------------------


@pytest.fixture
async def old_process(moving: Moving) -> AsyncIterator[Cluster]:
    """The cluster of a process that was started before there was a third shard."""
    cluster = Cluster(load_settings(moving.two, {}), find_shard_in(moving.config))
    for shard in cluster:
        await shard.primary.open()
    await cluster.load_map()
    yield cluster
    await cluster.close()


async def name_that_moves(moving: Moving) -> str:
    """Move some slots to the new shard, an order with them; return its id."""
    async with opened(moving.settings) as cluster:
        slots = {move.slot for move in add_few(cluster)}
    name = next(name for name in (f"o-{number}" for number in range(9999)) if slot_of(name) in slots)
    await Writer(moving.bench).order(name)
    await carry_out(moving.settings, add_few, Limits(), nobody, finish=True)
    return name


async def test_readers_go_by_the_map_of_their_process(moving: Moving, old_process: Cluster) -> None:
    settings = load_settings(moving.two, {})
    name = await name_that_moves(moving)
    epoch = old_process.router.epoch
    async with reader_of(settings, old_process) as first, reader_of(settings, old_process) as second:
        assert (await first.order(name)).served[0].shard == NEW
        assert old_process.router.epoch > epoch
        assert (await second.order(name)).served[0].shard == NEW
        assert {pair.name: pair.reads for pair in second.pairs.values()} == {"shard0": 0, "shard1": 0, NEW: 1}
        customer = await second.customer("c-1")
        assert [order.order_id for order in customer.value.orders] == [name]
        assert {served.shard for served in customer.served} == {"shard0", "shard1", NEW}


async def test_a_search_over_all_shards_finds_out_about_a_new_one(
    moving: Moving, old_process: Cluster
) -> None:
    name = await name_that_moves(moving)
    async with reader_of(load_settings(moving.two, {}), old_process) as reader:
        customer = await reader.customer("c-1")
        assert [order.order_id for order in customer.value.orders] == [name]


async def test_a_reader_by_itself_says_that_a_shard_is_missing(moving: Moving) -> None:
    name = await name_that_moves(moving)
    async with reader_of(load_settings(moving.two, {})) as alone:
        with pytest.raises(ShardMapError, match="does not own it"):
            await alone.order(name)
        with pytest.raises(ShardMapError, match="one is missing in the settings"):
            await alone.customer("c-1")
