"""Processes that send are woken by those that commit, and look by themselves when they cannot hear."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from ledger import Intake, Ledger
from real_stack import Bench, order_event

from pipeline.clock import Clock, SystemClock
from pipeline.lifecycle import Tasks
from pipeline.storage.outbox import Channel, Receipt, State
from pipeline.storage.outbox_news import OutboxNews

pytestmark = pytest.mark.integration


class Later(SystemClock):
    """The machine's clock, some time ahead."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


@asynccontextmanager
async def news_of(
    bench: Bench, *, listens: bool, clock: Clock | None = None
) -> AsyncIterator[tuple[OutboxNews, asyncio.Queue[str]]]:
    """The news as another process has them, and what it hears."""
    crashes: list[BaseException] = []
    tasks = Tasks(lambda _name, error: crashes.append(error))
    news = OutboxNews(bench.cluster, listens=listens, clock=clock or SystemClock(), tasks=tasks)
    heard: asyncio.Queue[str] = asyncio.Queue()
    news.on_news.append(heard.put_nowait)
    await news.start()
    try:
        if listens:
            for _ in bench.cluster:  # may have missed something before it listened
                await within(heard)
        yield news, heard
    finally:
        await news.stop()
    assert crashes == []


async def within(heard: asyncio.Queue[str], seconds: float = 10.0) -> str:
    async with asyncio.timeout(seconds):
        return await heard.get()


async def test_another_process_hears_of_a_commit_and_the_one_that_tells_only_once(bench: Bench) -> None:
    async with news_of(bench, listens=True) as (one, heard), news_of(bench, listens=True) as (_, far):
        one.tell("shard1")
        assert await within(far) == "shard1"
        assert heard.get_nowait() == "shard1"  # from itself, without the server
        one.tell("shard0")
        assert await within(far) == "shard0"  # by now its own notice of shard1 has come back too
        assert heard.get_nowait() == "shard0"
        assert heard.empty()


async def test_many_commits_make_few_notices(bench: Bench) -> None:
    async with news_of(bench, listens=False) as (one, _), news_of(bench, listens=True) as (_, far):
        for _ in range(500):
            one.tell("shard0")
            await asyncio.sleep(0)
        one.tell("shard1")
        while await within(far) != "shard1":
            pass
        assert far.qsize() < 100


async def end_listeners(bench: Bench) -> None:
    """End the connections to the first shard that listen."""
    [ended] = await bench.rows(
        "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity "
        "WHERE query = 'SELECT 1' AND datname = current_database()",
        shard="shard0",
    )
    assert ended["n"] >= 1  # what a listener has said last


async def test_a_lost_listener_is_news_and_nothing_is_heard_until_it_is_back(bench: Bench) -> None:
    async with news_of(bench, listens=True) as (news, heard):
        assert news.hears("shard0")
        await end_listeners(bench)
        assert await within(heard) == "shard0"
        assert not news.hears("shard0")
        assert news.hears("shard1")
        assert await within(heard) == "shard0"  # listening again: look at what came meanwhile
        assert news.hears("shard0")


async def test_the_next_due_message_is_known(bench: Bench) -> None:
    ledger = Ledger(bench)
    assert await ledger.outbox.next_due(Channel.SMS) is None
    [claim] = await ledger.claimed(1)
    assert await ledger.outbox.next_due(Channel.SMS) is None
    later = Receipt(*claim_key(claim), State.PENDING, reason="429", retry_in_s=30.0)
    await ledger.outbox.record(Channel.SMS, [later])
    due_in_s = await ledger.outbox.next_due(Channel.SMS)
    assert due_in_s is not None
    assert 25 < due_in_s <= 30
    assert await ledger.outbox.next_due(Channel.EMAIL) is None
    await ledger.owe(1)
    assert (await ledger.outbox.next_due(Channel.SMS) or 1) <= 0


def claim_key(claim: object) -> tuple[object, object, object]:
    return claim.slot, claim.effect_id, claim.claim_id  # type: ignore[attr-defined]


async def test_a_claim_passes_over_what_is_long_done_but_finds_stragglers(bench: Bench) -> None:
    ledger = Ledger(bench)
    await ledger.claimed(1)  # the first look is at everything, and leaves a mark
    await ledger.owe(3)
    minute = "UPDATE outbox SET due_at = now() - interval '1 minute' WHERE state = 'pending'"
    await bench.execute(minute)
    assert await ledger.outbox.claim(Channel.SMS, 10, uuid4()) == []
    ledger.outbox.look_anew()
    assert len(await ledger.outbox.claim(Channel.SMS, 10, uuid4())) == 3


async def test_after_long_deafness_all_that_is_due_is_looked_at(bench: Bench) -> None:
    """A commit that took a minute, as when the replica was away: its messages lie before the mark."""
    ledger, outbox, clock = Ledger(bench), bench.cluster["shard0"].outbox, Later()
    async with news_of(bench, listens=True, clock=clock) as (_, heard):
        await ledger.owe(1)
        await outbox.claim(Channel.SMS, 10, uuid4())
        await ledger.owe(1)
        minute = "UPDATE outbox SET due_at = now() - interval '1 minute' WHERE state = 'pending'"
        await bench.execute(minute)
        for away_s, found in ((0.0, 0), (31.0, 1)):
            clock.ahead_s += away_s
            await end_listeners(bench)
            assert [await within(heard), await within(heard)] == ["shard0"] * 2
            assert len(await outbox.claim(Channel.SMS, 10, uuid4())) == found


async def test_a_message_is_sent_at_once_also_when_it_was_committed_elsewhere(
    bench: Bench, run_pipeline: Callable[..., object]
) -> None:
    """A sender that polls once a minute: only news make it as quick as this."""
    with run_pipeline("--only", "notifications", notifications_poll_ms="60000"):  # type: ignore[attr-defined]
        async with news_of(bench, listens=False) as (intake, _):
            await Intake(bench).write(order_event("first"))  # what lies there at the start is looked for

            async def has_started() -> bool:
                return len(await bench.sms()) == 1

            await bench.until(has_started, "the first SMS", timeout_s=60.0)
            for number in range(1, 6):
                shard = await Intake(bench).write(order_event(f"o-{number}"))
                intake.tell(shard.name)

                async def all_sent(number: int = number) -> bool:
                    return len(await bench.sms()) == number + 1

                await bench.until(all_sent, "the SMS", timeout_s=9.0)
