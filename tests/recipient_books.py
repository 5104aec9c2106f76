"""A recipient book on real shards, and what it says of a number."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.clock import SystemClock
from pipeline.errors import ProviderError
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.recipient_book import RecipientBook
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key

ADA = "+14155550123"


@asynccontextmanager
async def book_on(cluster: Cluster, cap: int = 0) -> AsyncIterator[RecipientBook]:
    crashes: list[BaseException] = []
    book = RecipientBook(
        cap=cap,
        router=cluster.router,
        shard=lambda name: cluster[name].recipients,
        refresh=cluster.refresh,
        clock=SystemClock(),
        tasks=Tasks(lambda _name, error: crashes.append(error)),
    )
    try:
        yield book
        await book._tasks.join()
    finally:
        await book.stop()
        assert crashes == []


async def code_of(book: RecipientBook, number: str = ADA) -> str | None:
    try:
        await book.admit(recipient_key(Channel.SMS, number))
    except ProviderError as error:
        return error.code
    return None
