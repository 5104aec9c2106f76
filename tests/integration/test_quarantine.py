"""The quarantine on real shards: pages, the fence, and publishing again what can be."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import orjson
import pytest
from conformance.scripted_broker import ScriptedBroker
from real_stack import Bench

from consumers import quarantine
from pipeline.errors import BrokerUnavailableError
from pipeline.settings import Settings
from pipeline.storage.fence import FencedTransaction
from pipeline.storage.quarantine import Filter, Quarantine, QuarantineState

pytestmark = pytest.mark.integration

HELD = Filter()
INSERT = """
INSERT INTO quarantine (slot, quarantine_id, routing_key, headers, body, last_seen_at,
                        reason, detail, queue, exchange)
VALUES ($1, $2, $3, $4, $5, now() - interval '1 minute', 'invalid_data', '', 'order-processed', 'orders')
"""


class Shard:
    """One shard's quarantine, and a connection of the test's own to it."""

    def __init__(self, bench: Bench, connection: asyncpg.Connection) -> None:
        self.name = "shard0"
        self.connection = connection
        self.quarantine = Quarantine(self.name, bench.cluster[self.name].primary)
        self.slots = [slot for slot, owner in enumerate(bench.cluster.shard_map.owners) if owner == self.name]

    async def hold(
        self, slot: int, *, body: bytes = b"x", routing_key: str = "order.processed", headers: Any = None
    ) -> UUID:
        key = uuid4()
        await self.connection.execute(
            INSERT, slot, key, routing_key, orjson.dumps(headers or {}).decode(), body
        )
        return key

    async def set_slot(self, slot: int, state: str | None) -> None:
        """Say what the shard has to do with a slot."""
        async with FencedTransaction(self.connection, alone=True) as transaction:
            await self.connection.execute("DELETE FROM shard_slot WHERE slot = $1", slot)
            if state:
                await self.connection.execute("INSERT INTO shard_slot VALUES ($1, 1, $2)", slot, state)
            await transaction.commit()

    async def states(self) -> dict[UUID, str]:
        rows = await self.connection.fetch("SELECT quarantine_id, state FROM quarantine")
        return {row["quarantine_id"]: row["state"] for row in rows}


@pytest.fixture
async def shard(bench: Bench) -> AsyncIterator[Shard]:
    connection = await asyncpg.connect(bench.stack.shards[0].primary_dsn, timeout=5)
    await connection.execute("CREATE TABLE saved_shard_slot AS TABLE shard_slot")
    try:
        yield Shard(bench, connection)
    finally:
        await connection.execute(
            "TRUNCATE shard_slot; INSERT INTO shard_slot SELECT * FROM saved_shard_slot;"
            "DROP TABLE saved_shard_slot"
        )
        await connection.close()


async def paged(shard: Shard) -> list[list[UUID]]:
    return [[one.quarantine_id for one in page] async for page in shard.quarantine.pages(HELD)]


@pytest.mark.parametrize(("state", "is_shown"), [("owned", 1), ("leaving", 1), ("arriving", 0), (None, 0)])
async def test_only_rows_of_slots_that_are_here_are_shown(
    shard: Shard, state: str | None, is_shown: int
) -> None:
    """While a slot moves its rows are on two shards; else they would be listed, and published, twice."""
    await shard.hold(shard.slots[0])
    await shard.set_slot(shard.slots[0], state)
    assert len(await shard.quarantine.find(HELD, 10)) == is_shown
    assert await shard.quarantine.count(HELD) == is_shown
    assert len(await paged(shard)) == is_shown


async def test_rows_of_a_slot_that_leaves_are_not_marked(shard: Shard) -> None:
    leaving, staying = [await shard.hold(slot) for slot in shard.slots[:2]]
    found = await shard.quarantine.find(HELD, 10)
    for state in ("leaving", "arriving", None):
        await shard.set_slot(shard.slots[0], state)
        await shard.connection.execute("UPDATE quarantine SET state = 'held'")
        assert await shard.quarantine.mark(found, QuarantineState.DROPPED) == 1
        assert await shard.states() == {leaving: "held", staying: "dropped"}


async def test_marking_waits_for_a_change_of_owner(bench: Bench, shard: Shard) -> None:
    await shard.hold(shard.slots[0])
    found = await shard.quarantine.find(HELD, 10)

    async def waits() -> bool:
        return bool(await bench.rows("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))

    async with FencedTransaction(shard.connection, alone=True) as transaction:
        marking = asyncio.create_task(shard.quarantine.mark(found, QuarantineState.REDRIVEN))
        await bench.until_true(waits)
        await shard.connection.execute("DELETE FROM shard_slot WHERE slot = $1", shard.slots[0])
        await transaction.commit()
    assert await marking == 0


async def test_what_is_seen_again_since_it_was_read_is_not_marked(shard: Shard) -> None:
    await shard.hold(shard.slots[0])
    found = await shard.quarantine.find(HELD, 10)
    await shard.connection.execute("UPDATE quarantine SET seen = seen + 1")
    assert await shard.quarantine.mark(found, QuarantineState.REDRIVEN) == 0


async def test_pages_bring_every_row_once_and_few_bytes_at_a_time(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.quarantine._PAGE_ROWS", 3)
    monkeypatch.setattr("pipeline.storage.quarantine._PAGE_BYTES", 100)
    sizes = (40, 40, 40, 500, 1, 1, 1, 1)
    held = [await shard.hold(slot, body=b"x" * size) for slot, size in zip(shard.slots, sizes, strict=False)]
    pages = await paged(shard)
    assert pages == [held[:3], held[3:4], held[4:7], held[7:]]
    assert await shard.quarantine.count(HELD) == len(held)


async def test_pages_end_although_what_was_read_comes_again(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad delivery that is published again is held again at once, perhaps under another id."""
    monkeypatch.setattr("pipeline.storage.quarantine._PAGE_ROWS", 1)
    first = await shard.hold(shard.slots[0])
    found = []
    async for page in shard.quarantine.pages(HELD):
        found += [one.quarantine_id for one in page]
        assert len(found) == 1
        await shard.hold(shard.slots[1])
        await shard.connection.execute(
            "UPDATE quarantine SET last_seen_at = clock_timestamp(), seen = seen + 1"
        )
    assert found == [first]


async def test_what_cannot_be_published_again_does_not_stop_the_others(
    bench: Bench, shard: Shard, settings: Settings
) -> None:
    good = {await shard.hold(slot) for slot in shard.slots[:3]}
    too_long = await shard.hold(shard.slots[3], routing_key="\\xff" * 64)
    cut_short = await shard.hold(shard.slots[4], headers={"undecodable_base64": "ABA="})
    good |= {await shard.hold(slot) for slot in shard.slots[5:8]}
    worked = await quarantine.redrive(settings, HELD)
    assert (worked.done, worked.still_held) == (6, 0)
    assert sorted(problem.split(":")[0] for problem in worked.problems) == sorted(
        (too_long.hex, cut_short.hex)
    )
    states = await shard.states()
    assert {key for key, state in states.items() if state == "redriven"} == good
    status = await bench.status()
    assert {queue.name: queue.messages for queue in status.queues}["order-processed"] == 6


async def test_a_broker_that_takes_nothing_ends_a_redrive_in_time(shard: Shard, settings: Settings) -> None:
    """While its alarm for memory or disk space lasts, RabbitMQ answers no publish."""
    for slot in shard.slots[:3]:
        await shard.hold(slot)
    broker = ScriptedBroker()
    await broker.start()
    try:
        amqp = msgspec.structs.replace(
            settings.amqp,
            url=f"amqp://guest@127.0.0.1:{broker.port}/",
            publish_window=1,
            publish_timeout_s=0.3,
        )
        with pytest.raises(BrokerUnavailableError, match="takes nothing for"):
            async with asyncio.timeout(10):
                await quarantine.redrive(msgspec.structs.replace(settings, amqp=amqp), HELD)
    finally:
        await broker.stop()
    assert set((await shard.states()).values()) == {"held"}


async def test_export_writes_each_once(shard: Shard, settings: Settings, tmp_path: Path) -> None:
    held = {(await shard.hold(slot)).hex for slot in shard.slots[:10]}
    with (tmp_path / "held.jsonl").open("wb") as target:
        assert await quarantine.export(settings, HELD, target.write) == 10
    lines = [orjson.loads(line) for line in (tmp_path / "held.jsonl").read_bytes().splitlines()]
    assert {line["quarantine_id"] for line in lines} == held
    assert len(lines) == 10


async def test_drop_counts_what_it_left(shard: Shard, settings: Settings) -> None:
    for slot in shard.slots[:2]:
        await shard.hold(slot)
    await shard.set_slot(shard.slots[0], "leaving")
    assert await quarantine.count(settings, HELD) == 2
    worked = await quarantine.drop(settings, HELD)
    assert (worked.done, worked.still_held) == (1, 1)
