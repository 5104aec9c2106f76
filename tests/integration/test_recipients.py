"""Recipients on real shards: what was said last counts, the cap is exact, and both follow moving slots."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from moving_shards import Moving, add_few
from prometheus_client import CollectorRegistry
from real_stack import Bench

from consumers.command import find_shard_in
from consumers.resharding import carry_out, opened
from pipeline.clock import SystemClock
from pipeline.errors import ProviderError, SlotsMovedError
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.recipient_book import RecipientBook
from pipeline.notifications.rules.recipients import Recipients
from pipeline.notifications.rules.spending import Spending
from pipeline.observability.rule_metrics import RuleMetrics
from pipeline.resharding.progress import nobody
from pipeline.resharding.throttle import Limits
from pipeline.settings import RuleSettings, load_settings
from pipeline.sharding.router import Router
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import RecipientKey, RecipientState, recipient_key

pytestmark = pytest.mark.integration

IN, OUT = RecipientState.IN, RecipientState.OUT
ADA = "+14155550123"
START = datetime(2026, 1, 1, tzinfo=UTC)


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


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


# What is said, and when; then what the next message comes out as.
STORIES = {
    "stop": ([(OUT, "stop", 1)], "opted_out"),
    "stop, start": ([(OUT, "stop", 1), (IN, "start", 2)], None),
    "start that comes late": ([(IN, "start", 2), (OUT, "stop", 1)], None),
    "stop that comes late": ([(OUT, "stop", 2), (IN, "start", 1)], "opted_out"),
    "both at once": ([(IN, "start", 1), (OUT, "stop", 1)], "opted_out"),
    "both at once, the other way": ([(OUT, "stop", 1), (IN, "start", 1)], "opted_out"),
    "start lifts what a provider said": ([(OUT, "provider:21610", 1), (IN, "start", 2)], None),
    "start lifts no bounce": ([(OUT, "bounce:5.1.1", 1), (IN, "start", 2)], "bounced"),
    "a bounce stays one": (
        [(OUT, "bounce:5.1.1", 1), (OUT, "unsubscribe", 2), (IN, "start", 3)],
        "bounced",
    ),
    "an operator lifts a bounce": ([(OUT, "bounce:5.1.1", 1), (IN, "operator", 2)], None),
    "start lifts no block": ([(OUT, "operator", 1), (IN, "start", 2)], "blocked"),
    "stop after an operator's word": ([(IN, "operator", 1), (OUT, "stop", 2)], "opted_out"),
    "the far future is near": ([(OUT, "stop", 10**9), (IN, "operator", 1)], "opted_out"),
}


@pytest.mark.parametrize("name", STORIES)
async def test_what_was_said_last_counts(bench: Bench, name: str) -> None:
    words, code = STORIES[name]
    recipients = Recipients(bench.cluster, clock=SystemClock())
    for state, reason, seconds in words:
        await recipients.set(Channel.SMS, ADA, state, reason, at(seconds))
    for state, reason, seconds in words:  # again, as a webhook is
        await recipients.set(Channel.SMS, ADA, state, reason, at(seconds))
    async with book_on(bench.cluster) as book:
        assert await code_of(book) == code
        assert await code_of(book, "+14155550199") is None
    rows = await bench.rows(
        "SELECT channel, changed_at <= now() + interval '5 minutes' AS is_near FROM recipient"
    )
    assert rows == [{"channel": "sms", "is_near": True}]


async def test_a_word_is_on_the_replica_when_it_is_acknowledged_also_the_second_time(bench: Bench) -> None:
    recipients = Recipients(bench.cluster, clock=SystemClock())
    for _ in range(2):
        await recipients.set(Channel.EMAIL, "Ada@Example.com", OUT, "unsubscribe", at(1))
        [row] = await bench.rows("SELECT slot, recipient_key, reason FROM recipient", replica=True)
        slot, key = recipient_key(Channel.EMAIL, "ada@example.com")
        assert row == {"slot": slot, "recipient_key": key, "reason": "unsubscribe"}
    shown = await recipients.show(Channel.EMAIL, "ada@example.com")
    assert (shown.state, shown.reason, shown.changed_at, shown.messages_today) == (
        OUT,
        "unsubscribe",
        at(1),
        0,
    )
    assert (await recipients.show(Channel.SMS, ADA)).state is None


async def test_no_number_and_no_address_is_kept(bench: Bench) -> None:
    await Recipients(bench.cluster, clock=SystemClock()).set(Channel.SMS, ADA, OUT, "stop", at(1))
    [row] = await bench.rows("SELECT recipient::text AS row FROM recipient")
    assert "415555" not in row["row"]


async def test_the_daily_cap_is_exact_whoever_counts(bench: Bench) -> None:
    """Two processes, 60 messages at once, room for 25: just 25 pass."""
    async with book_on(bench.cluster, 25) as one, book_on(bench.cluster, 25) as other:
        codes = await asyncio.gather(*(code_of(book) for _ in range(30) for book in (one, other)))
        assert codes.count(None) == 25
        assert set(codes) == {None, "daily_cap"}
        assert await code_of(one, "+14155550199") is None
    shown = await Recipients(bench.cluster, clock=SystemClock()).show(Channel.SMS, ADA)
    assert shown.messages_today == 25


async def test_what_was_not_sent_makes_room_again(bench: Bench) -> None:
    async with book_on(bench.cluster, 2) as book:
        passed = [await book.admit(recipient_key(Channel.SMS, ADA)) for _ in range(2)]
        assert await code_of(book) == "daily_cap"
        book.take_back(passed[0])
        await book._tasks.join()
        assert await code_of(book) is None
        assert await code_of(book) == "daily_cap"
    # A new day.
    await bench.execute("UPDATE recipient_day SET day = day - 1")
    async with book_on(bench.cluster, 2) as book:
        assert await code_of(book) is None


async def test_who_wants_nothing_is_not_counted(bench: Bench) -> None:
    await Recipients(bench.cluster, clock=SystemClock()).set(Channel.SMS, ADA, OUT, "stop", at(1))
    async with book_on(bench.cluster, 5) as book:
        assert await code_of(book) == "opted_out"
    assert await bench.rows("SELECT FROM recipient_day") == []


# --- slots that move --------------------------------------------------------------------------------------


@pytest.fixture
def swapped(bench: Bench) -> Iterator[RecipientKey]:
    """A recipient, and a cluster whose map leads to the wrong shard for everybody."""
    cluster = bench.cluster
    right = cluster.router.shard_map
    first, second = cluster.shards
    owners = tuple(second if owner == first else first for owner in right.owners)
    cluster.router = Router(msgspec.structs.replace(right, epoch=0, owners=owners))
    return recipient_key(Channel.SMS, ADA)


async def test_an_old_map_leads_on_to_the_owner(bench: Bench, swapped: RecipientKey) -> None:
    wrong = bench.cluster[bench.cluster.router.shard_of(swapped.slot)]
    with pytest.raises(SlotsMovedError):
        await wrong.recipients.set(swapped, Channel.SMS, OUT, "stop", at(1))
    async with book_on(bench.cluster, 5) as book:
        assert await code_of(book) is None
        assert (book.asked, book.statements) == (1, 2)
    assert len(await bench.rows("SELECT FROM recipient_day")) == 1
    assert len(await bench.rows("SELECT FROM recipient_day", shard=wrong.name)) == 0


async def test_words_and_counts_move_with_their_slots(moving: Moving) -> None:
    """While slots move: every word said is there afterwards, and of 40 messages at most the cap passed."""
    async with opened(moving.settings) as cluster:
        slots = {move.slot for move in add_few(cluster)}
    numbers = [
        number
        for number in (f"+1415555{last:04}" for last in range(2000))
        if recipient_key(Channel.SMS, number).slot in slots
    ][:10]
    old = Cluster(load_settings(moving.two, {}), find_shard_in(moving.config))
    for shard in old:
        await shard.primary.open()
    await old.load_map()
    try:
        recipients = Recipients(old, clock=SystemClock())
        async with book_on(old, 20) as book:
            change = asyncio.create_task(carry_out(moving.settings, add_few, Limits(), nobody, finish=True))
            passed, turn = dict.fromkeys(numbers, 0), 0
            while not change.done() or turn < 40:
                turn += 1
                for number in numbers:
                    passed[number] += await code_of(book, number) is None
                    await recipients.set(Channel.SMS, f"{number}{turn:03}", OUT, "stop", at(1))
            await change
            assert {code for number in numbers if (code := await code_of(book, number))} == {"daily_cap"}
        assert set(passed.values()) == {20}
        for number in numbers:
            for one in range(1, turn + 1):
                assert (await recipients.show(Channel.SMS, f"{number}{one:03}")).state is OUT
        assert old.router.epoch > 1
    finally:
        await old.close()


# --- spend --------------------------------------------------------------------------------------------------


async def test_the_spend_of_all_processes_counts(bench: Bench) -> None:
    rules, tasks = RuleSettings(spend_segments_per_hour=10), Tasks(lambda _name, _error: None)

    def spending() -> Spending:
        return Spending(
            bench.cluster,
            rules,
            metrics=RuleMetrics(CollectorRegistry()),
            clock=SystemClock(),
            tasks=tasks,
        )

    one, other = spending(), spending()
    one.add(ADA, 6)
    other.add("+4930901820", 4)
    other.check(ADA)
    await one.look()
    await other.look()
    with pytest.raises(ProviderError, match="spend_total"):
        other.check(ADA)
    one.check(ADA)
    await one.look()
    with pytest.raises(ProviderError, match="spend_total"):
        one.check(ADA)
    rows = await bench.rows("SELECT country, sum(segments) AS segments FROM sms_spend GROUP BY country")
    assert sorted((row["country"], row["segments"]) for row in rows) == [("1", 6), ("49", 4)]
    await bench.execute("UPDATE sms_spend SET recorded_at = now() - interval '61 minutes'")
    await one.look()
    one.check(ADA)
