"""Reads of a pair one of whose servers is slow, hangs or is away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from reading import Proxies, Writer, held_back, pair_of, proxies, reader_of, role
from real_stack import Bench

from pipeline.errors import PostorderError, StorageTimeoutError, StorageUnavailableError
from pipeline.reading.consistency import Consistency, Mode
from pipeline.settings import Settings
from stack.postgres import Pair

pytestmark = pytest.mark.integration

ANY = Consistency.ANY
SHARD = "shard0"


@pytest.fixture
def pair(bench: Bench, stack_folder: Path) -> Pair:
    return pair_of(stack_folder, SHARD)


@pytest.fixture
def writer(bench: Bench) -> Writer:
    return Writer(bench)


@pytest.fixture
async def proxied(bench: Bench, settings: Settings) -> AsyncIterator[Proxies]:
    async with proxies(settings) as both:
        yield both


async def test_a_hedge_answers_when_the_first_server_hangs_and_no_query_is_cancelled(
    proxied: Proxies, writer: Writer
) -> None:
    name = writer.name()
    await writer.order(name)
    async with reader_of(proxied.settings, loser_limit_s=0.2) as reader:
        assert await role(reader, name, Mode.REPLICA) == "replica"
        await role(reader, name, Mode.PRIMARY)
        opened = proxied.replica.connections
        proxied.replica.stall()
        assert await role(reader, name, Mode.HEDGED) == "primary"
        replica = reader.pairs[SHARD].endpoints[1]
        [loser] = replica.pending
        await asyncio.wait_for(asyncio.wait({loser.task}), timeout=5)
        assert not loser.task.cancelled()
        assert proxied.replica.connections == opened
        proxied.replica.flow()
        assert await role(reader, name, Mode.REPLICA) == "replica"


async def test_a_server_that_hangs_does_not_hold_up_the_reads_that_follow(
    proxied: Proxies, writer: Writer
) -> None:
    """The budget allows but few hedges; reads go to the other server first after that."""
    name = writer.name()
    await writer.order(name)
    async with reader_of(proxied.settings) as reader:
        for _ in range(40):
            await reader.order(name)
        proxied.replica.stall()
        async with asyncio.timeout(10):
            roles = [await role(reader, name, Mode.HEDGED) for _ in range(40)]
        assert set(roles) == {"primary"}
        assert reader.pairs[SHARD].asked <= reader.pairs[SHARD].reads * 1.05 + 2


async def test_a_lost_answer_does_not_spoil_the_next_one(proxied: Proxies, writer: Writer) -> None:
    """A connection with an answer still to come is not used for another read."""
    one, two = writer.names(SHARD, 2)
    await writer.order(one)
    await writer.order(two)
    async with reader_of(proxied.settings, loser_limit_s=2.0, timeout_s=1.0) as reader:
        await role(reader, one, Mode.PRIMARY)
        proxied.primary.stall()
        with pytest.raises(StorageTimeoutError):
            await reader.order(one, mode=Mode.PRIMARY)
        proxied.primary.flow()
        answer = await reader.order(two, mode=Mode.PRIMARY)
        assert answer.value.order is not None
        assert answer.value.order.order_id == two


async def test_without_its_primary_the_replica_answers(proxied: Proxies, writer: Writer) -> None:
    name = writer.name()
    await writer.order(name)
    async with reader_of(proxied.settings) as warm, reader_of(proxied.settings) as cold:
        await warm.order(name)
        await proxied.primary.cut()
        for reader in (warm, cold):
            for mode in (Mode.HEDGED, Mode.RACE, Mode.REPLICA):
                assert await role(reader, name, mode) == "replica"
            with pytest.raises(StorageUnavailableError):
                await reader.order(name, mode=Mode.PRIMARY)


async def test_without_its_primary_a_replica_that_is_behind_does_not_answer(
    proxied: Proxies, writer: Writer, pair: Pair
) -> None:
    name = writer.name()
    async with reader_of(proxied.settings) as reader:
        await reader.order(name)
        with held_back(pair):
            await writer.order(name)
            await proxied.primary.cut()
            with pytest.raises(StorageUnavailableError, match="behind"):
                await reader.order(name)
            assert (await reader.order(name, consistency=ANY)).value.is_empty


async def test_without_both_both_are_named(proxied: Proxies, writer: Writer) -> None:
    async with reader_of(proxied.settings) as reader:
        await proxied.primary.cut()
        await proxied.replica.cut()
        with pytest.raises(
            PostorderError, match=r"shard0 replica.*shard0 primary|shard0 primary.*shard0 replica"
        ):
            await reader.order(writer.name())
