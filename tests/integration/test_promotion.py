"""What a promotion by hand refuses, each time with the primary left as it was."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
from real_stack import Bench

from pipeline.errors import PromotionError
from pipeline.settings import ShardSettings, StorageSettings
from pipeline.storage import promotion
from pipeline.storage.promotion import promote
from stack.launch import Launch
from stack.postgres import Pair
from stack.privileges import unprivileged_account
from stack.state import load_state

pytestmark = pytest.mark.integration

STORAGE = StorageSettings(connect_timeout_s=1.0)
NOBODY = "127.0.0.1:1"


@pytest.fixture
async def shard(bench: Bench) -> AsyncIterator[ShardSettings]:
    """Shard 0 as the settings have it; afterwards its primary must still take writes."""
    yield bench.settings.shards[0]
    connection = await asyncpg.connect(bench.stack.shards[0].primary_dsn, timeout=5)
    assert await connection.fetchval("SHOW default_transaction_read_only") == "off"
    await connection.execute("SELECT pg_logical_emit_message(true, 'tests', '')")
    assert not await connection.fetchval("SELECT pg_is_in_recovery()")
    await connection.close()


def with_primary(shard: ShardSettings, dsn: str) -> ShardSettings:
    return msgspec.structs.replace(shard, primary=dsn)


def at(dsn: str, address: str) -> str:
    head, _, rest = dsn.partition("@")
    return f"{head}@{address}/{rest.partition('/')[2]}"


async def refused(shard: ShardSettings, reason: str, **options: bool) -> None:
    with pytest.raises(PromotionError, match=reason):
        await promote(shard, STORAGE, **options)


async def test_a_primary_that_lives_but_cannot_be_reached(shard: ShardSettings) -> None:
    """Its replica still receives from it: then not even the operator's word is taken."""
    unreachable = with_primary(shard, at(shard.primary, NOBODY))
    await refused(unreachable, "it lives", primary_is_dead=True)
    await refused(unreachable, "it lives")


async def test_a_replica_that_cannot_be_reached(shard: ShardSettings) -> None:
    await refused(msgspec.structs.replace(shard, replica=at(shard.replica, NOBODY)), "nothing to promote")


async def test_a_shard_without_a_replica(shard: ShardSettings) -> None:
    await refused(msgspec.structs.replace(shard, replica=""), "shard0 has no replica")


async def test_a_shard_under_patroni(shard: ShardSettings) -> None:
    await refused(with_primary(shard, at(shard.primary, f"{NOBODY},{NOBODY}2")), "Patroni")


async def test_another_shards_replica(shard: ShardSettings, bench: Bench) -> None:
    others = bench.settings.shards[1].replica
    await refused(msgspec.structs.replace(shard, replica=others), "another system's")


async def test_primary_and_replica_mistaken_for_each_other(shard: ShardSettings) -> None:
    swapped = msgspec.structs.replace(shard, primary=shard.replica, replica=shard.primary)
    await refused(swapped, "is a replica: swap the two")


def pair_of(folder: Path) -> Pair:
    state = load_state(folder)
    return Launch(folder, state, unprivileged_account(), lambda _text: None).pair(state.shards[0])


async def test_a_replica_that_does_not_catch_up(
    shard: ShardSettings, bench: Bench, stack_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "_CATCH_UP_S", 0.5)
    pair = pair_of(stack_folder)
    pair.sql("replica", "SELECT pg_wal_replay_pause()")
    try:
        await bench.execute("SELECT pg_logical_emit_message(true, 'tests', 'not replayed')")
        await refused(shard, "has not replayed .* takes writes again")
    finally:
        pair.sql("replica", "SELECT pg_wal_replay_resume()")


async def test_cancelled_while_it_waits(shard: ShardSettings, bench: Bench, stack_folder: Path) -> None:
    pair = pair_of(stack_folder)
    pair.sql("replica", "SELECT pg_wal_replay_pause()")
    try:
        await bench.execute("SELECT pg_logical_emit_message(true, 'tests', 'not replayed')")
        task = asyncio.create_task(promote(shard, STORAGE))
        fenced = "SELECT setting FROM pg_settings WHERE name = 'default_transaction_read_only'"

        async def is_fenced() -> bool:
            return (await bench.rows(fenced, shard=shard.name))[0]["setting"] == "on"

        await bench.until_true(is_fenced)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        pair.sql("replica", "SELECT pg_wal_replay_resume()")
