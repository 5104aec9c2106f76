"""What tests of reads share: rows written by hand, a replica held back, servers behind slow proxies."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
from real_stack import Bench

from loadtest.slow_proxy import SlowProxy
from pipeline.reading.consistency import Mode
from pipeline.reading.order_reader import OrderReader
from pipeline.settings import Settings
from pipeline.sharding.slots import slot_of
from pipeline.storage.cluster import Cluster
from stack.launch import Launch
from stack.postgres import Pair
from stack.privileges import unprivileged_account
from stack.state import load_state

ORDER = """
INSERT INTO orders (slot, order_id, customer_id, customer_name, email, phone, currency, total, lines,
                    processed_at, event_source, event_id)
VALUES (slot_of($1), $1, $2, 'Ada Example', 'ada@example.com', '+14155550123', 'EUR', 74.40, '[]',
        $3, '/t', $1)"""
INVOICE = """
INSERT INTO invoices (slot, order_id, invoice_id, currency, total, issued_at, media_type, document, effect_id,
                      event_source, event_id)
VALUES (slot_of($1), $1, $2, 'EUR', 74.40, now(), 'application/pdf', 'PDF', effect_id_of($1 || ' ' || $2, 3),
        '/t', $2)"""
PERSON = """
INSERT INTO customers (slot, customer_id, name, email, phone, updated_at, event_source, event_id)
VALUES (slot_of($1), $1, 'Grace Example', 'grace@example.com', '+14155550199', now(), '/t', $1)"""
CONSENT = """
INSERT INTO consent (slot, customer_id, channel, state, reason, changed_at)
VALUES (slot_of($1), $1, 'sms', 'out', 'test', now())"""
MESSAGE = """
INSERT INTO outbox (slot, effect_id, order_id, channel, kind, expires_at)
VALUES (slot_of($1), effect_id_of($1, $2), $1, $3, $4, now() + interval '1 day')"""


def quiet(_text: str) -> None:
    pass


def pair_of(stack_folder: Path, name: str) -> Pair:
    """A shard's servers as the stack starts them, with their superuser."""
    state = load_state(stack_folder)
    shard = next(shard for shard in state.shards if shard.name == name)
    return Launch(stack_folder, state, unprivileged_account(), quiet).pair(shard)


class Writer:
    """Writes to the primaries, each statement a transaction that waits for the replica."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def names(self, shard: str, count: int, prefix: str = "o") -> list[str]:
        """Return ids of orders that fall to a shard."""
        owners = self._bench.cluster.shard_map.owners
        found = (name for name in (f"{prefix}-{n}" for n in range(10_000)) if owners[slot_of(name)] == shard)
        return [next(found) for _ in range(count)]

    def name(self, shard: str = "shard0", prefix: str = "o") -> str:
        return self.names(shard, 1, prefix)[0]

    def dsn(self, shard: str) -> str:
        return next(found.primary_dsn for found in self._bench.stack.shards if found.name == shard)

    async def run(self, shard: str, sql: str, *arguments: Any) -> None:
        connection = await asyncpg.connect(self.dsn(shard), timeout=5)
        try:
            await connection.execute(sql, *arguments, timeout=30)
        finally:
            await connection.close()

    async def order(self, order_id: str, customer: str = "c-1", at: str = "2026-11-21") -> None:
        """Store an order with its two messages."""
        shard = self._bench.cluster.shard_map.owners[slot_of(order_id)]
        await self.run(shard, ORDER, order_id, customer, datetime.fromisoformat(f"{at}T00:00:00+00:00"))
        await self.run(shard, MESSAGE, order_id, 1, "sms", "order_sms")
        await self.run(shard, MESSAGE, order_id, 2, "email", "order_email")

    async def person(self, customer_id: str) -> None:
        """Store a person who does not want SMS."""
        shard = self._bench.cluster.shard_map.owners[slot_of(customer_id)]
        await self.run(shard, PERSON, customer_id)
        await self.run(shard, CONSENT, customer_id)

    async def invoice(self, order_id: str, invoice_id: str) -> None:
        shard = self._bench.cluster.shard_map.owners[slot_of(order_id)]
        await self.run(shard, INVOICE, order_id, invoice_id)


@contextmanager
def held_back(pair: Pair) -> Iterator[None]:
    """A replica that receives, and so lets commits be acknowledged, but shows nothing new."""
    pair.sql("replica", "SELECT pg_wal_replay_pause()")
    try:
        while pair.sql("replica", "SELECT pg_get_wal_replay_pause_state()").strip() != "paused":
            pass
        yield
    finally:
        pair.sql("replica", "SELECT pg_wal_replay_resume()")


@asynccontextmanager
async def reader_of(
    settings: Settings, cluster: Cluster | None = None, **reads: Any
) -> AsyncIterator[OrderReader]:
    # On a busy machine a replica may take a while; who is to answer must not depend on that.
    changed = msgspec.structs.replace(
        settings.reads, **{"catch_up_ms": 1000.0, "patience_ms": 400.0, **reads}
    )
    reader = OrderReader(msgspec.structs.replace(settings, reads=changed), cluster)
    try:
        yield reader
    finally:
        await asyncio.wait_for(reader.close(), timeout=20)


async def role(reader: OrderReader, order_id: str, mode: Mode, **how: object) -> str:
    """Read an order that is there; return who answered."""
    answer = await reader.order(order_id, mode=mode, **how)  # type: ignore[arg-type]
    assert answer.value.order is not None, answer
    return answer.served[0].role


class Proxies:
    """Both servers of shard0 behind proxies."""

    def __init__(self, settings: Settings, primary: SlowProxy, replica: SlowProxy) -> None:
        self.primary = primary
        self.replica = replica
        first, *others = settings.shards
        through = msgspec.structs.replace(
            first, primary=_through(first.primary, primary), replica=_through(first.replica, replica)
        )
        self.settings = msgspec.structs.replace(settings, shards=(through, *others))


def _through(dsn: str, proxy: SlowProxy) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}"))


@asynccontextmanager
async def proxies(settings: Settings) -> AsyncIterator[Proxies]:
    shard = settings.shards[0]
    ports = [urlsplit(dsn).port for dsn in (shard.primary, shard.replica)]
    async with SlowProxy(ports[0]) as primary, SlowProxy(ports[1]) as replica:
        yield Proxies(settings, primary, replica)
