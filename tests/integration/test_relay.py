"""A relay that hears of everything need not poll: it wakes for what is due again, and when it is due."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

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


@asynccontextmanager
async def relay(bench: Bench, sender: Any) -> AsyncIterator[OutboxNews]:
    """A relay that polls once a minute, in a process of its own as it were."""
    crashes: list[BaseException] = []

    def tasks() -> Tasks:
        return Tasks(lambda _name, error: crashes.append(error))

    metrics, clock, recording = Metrics(), SystemClock(), tasks()
    news = OutboxNews(bench.cluster, listens=True, clock=clock, tasks=tasks())
    book = ReceiptBook(
        Channel.SMS, bench.cluster, gather_s=0.0, metrics=metrics, clock=clock, tasks=recording
    )
    made = Relay(
        Channel.SMS,
        cluster=bench.cluster,
        dispatcher=sender,
        receipts=book,
        capacity=FixedCapacity(4),
        claim_max=10,
        poll_s=60.0,
        news=news,
        metrics=metrics,
        clock=clock,
        claiming=tasks(),
        working=tasks(),
        recording=recording,
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
