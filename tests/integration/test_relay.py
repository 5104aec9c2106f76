"""A relay that hears of everything need not poll: it wakes for what is due again, and when it is due."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from ledger import Ledger
from real_stack import Bench

from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.notifications.pools.worker_pool import FixedCapacity
from pipeline.notifications.receipts import ReceiptBook
from pipeline.notifications.relay import Relay
from pipeline.observability.metrics import Metrics
from pipeline.storage.outbox import Channel, Claim, Receipt, State
from pipeline.storage.outbox_news import OutboxNews

pytestmark = pytest.mark.integration


class Sender:
    """Puts off a message's first tries, then sends it."""

    def __init__(self, put_off: int) -> None:
        self._put_off = put_off
        self.sent: asyncio.Queue[int] = asyncio.Queue()

    async def dispatch(self, claim: Claim) -> Receipt:
        key = claim.slot, claim.effect_id, claim.claim_id
        if claim.attempt <= self._put_off:
            return Receipt(*key, State.PENDING, reason="429", retry_in_s=0.2)
        self.sent.put_nowait(claim.attempt)
        return Receipt(*key, State.ACCEPTED, "twilio", "SM1", None, datetime.now(UTC))


class Counting:
    """Sends everything. `has_sent`: so many of a shard's, or more."""

    def __init__(self, shard: str, count: int) -> None:
        self.sent: Counter[str] = Counter()
        self.has_sent = asyncio.Event()
        self._wanted = shard, count

    async def dispatch(self, claim: Claim) -> Receipt:
        self.sent[claim.shard] += 1
        shard, count = self._wanted
        if self.sent[shard] >= count:
            self.has_sent.set()
        key = claim.slot, claim.effect_id, claim.claim_id
        return Receipt(*key, State.ACCEPTED, "twilio", "SM1", None, datetime.now(UTC))


@asynccontextmanager
async def no_receipts_on(dsn: str) -> AsyncIterator[None]:
    """Have a shard that can be claimed from take no receipts: each waits for a lock."""
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        await connection.execute("BEGIN; LOCK TABLE receipt_batch IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        await connection.close()


@asynccontextmanager
async def relay(bench: Bench, sender: Any) -> AsyncIterator[OutboxNews]:
    """A relay that polls once a minute, in a process of its own as it were."""
    crashes: list[BaseException] = []

    def tasks() -> Tasks:
        return Tasks(lambda _name, error: crashes.append(error))

    metrics, clock = Metrics(), SystemClock()
    news = OutboxNews(bench.cluster, listens=True, clock=clock, tasks=tasks())
    book = ReceiptBook(Channel.SMS, bench.cluster, gather_s=0.0, metrics=metrics, clock=clock, tasks=tasks())
    made = Relay(
        Channel.SMS,
        cluster=bench.cluster,
        dispatcher=sender,
        receipts=book,
        capacity=FixedCapacity(4),
        claim_max=10,
        poll_s=60.0,
        grace_s=0.0,
        news=news,
        metrics=metrics,
        clock=clock,
        claiming=tasks(),
        working=tasks(),
    )
    await made.start()
    await news.start()
    try:
        yield news
    finally:
        await made.drain()
        await made.stop()
        await news.stop()
    assert crashes == []
    assert news.on_news == []
    assert made.wake not in bench.cluster.on_map
    assert bench.cluster.on_added == []


async def test_a_message_put_off_is_tried_again_when_it_is_due(bench: Bench) -> None:
    ledger, sender = Ledger(bench), Sender(put_off=2)
    async with relay(bench, sender) as news:
        await ledger.owe(1)
        news.tell(ledger.shard.name)
        async with asyncio.timeout(9):
            assert await sender.sent.get() == 3


async def test_what_is_owed_later_is_sent_when_it_is_due(bench: Bench) -> None:
    """As a grace window's end: nobody calls at that moment."""
    ledger, sender = Ledger(bench), Sender(put_off=0)
    await ledger.owe(1)
    await bench.execute("UPDATE outbox SET due_at = now() + interval '1 second'")
    async with relay(bench, sender), asyncio.timeout(9):
        assert await sender.sent.get() == 1


async def test_a_shard_that_takes_no_receipts_holds_up_no_other(bench: Bench) -> None:
    stuck, fine = Ledger(bench), Ledger(bench)
    fine.shard = bench.cluster["shard1"]
    await stuck.owe(40)
    await fine.owe(40)
    sender = Counting("shard1", 40)
    async with relay(bench, sender):
        async with no_receipts_on(bench.stack.shards[0].primary_dsn), asyncio.timeout(9):
            await sender.has_sent.wait()
        assert sender.sent["shard0"] <= 8 + 8  # receipts that are open, and the places of the pool
    states = Counter(await stuck.states())
    assert states == {State.ACCEPTED: sender.sent["shard0"], State.PENDING: 40 - sender.sent["shard0"]}
    assert await fine.states() == [State.ACCEPTED] * 40
