"""Recipients on real shards: the cap is exact, and both words and counts follow moving slots."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from moving_shards import Moving, add_few
from real_stack import Bench
from recipient_books import ADA, book_on, code_of

from consumers.command import find_shard_in
from consumers.resharding import carry_out, opened
from pipeline.clock import SystemClock
from pipeline.errors import ProviderError, SlotsMovedError
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.recipients import Recipients
from pipeline.notifications.rules.spending import Spending
from pipeline.observability.registry import MetricRegistry
from pipeline.observability.rule_metrics import RuleMetrics
from pipeline.resharding.progress import nobody
from pipeline.resharding.throttle import Limits
from pipeline.settings import RuleSettings, load_settings
from pipeline.sharding.router import Router
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import Asked, Counted, RecipientKey, recipient_key
from pipeline.storage.standing import RecipientState, Said

pytestmark = pytest.mark.integration

OUT = RecipientState.OUT


async def test_the_daily_cap_is_exact_whoever_counts(bench: Bench) -> None:
    """Two processes, 60 messages at once, room for 25: just 25 pass."""
    async with book_on(bench.cluster, 25) as one, book_on(bench.cluster, 25) as other:
        codes = await asyncio.gather(*(code_of(book) for _ in range(30) for book in (one, other)))
        assert codes.count(None) == 25
        assert set(codes) == {None, "daily_cap"}
        assert await code_of(one, "+14155550199") is None
    shown = await Recipients(bench.cluster, clock=SystemClock()).show(Channel.SMS, ADA)
    assert shown.messages_today >= 25  # both may have counted what one was granted: no more pass for that


async def test_what_was_asked_for_at_once_and_not_granted_uses_no_room_up(bench: Bench) -> None:
    """Both ask for the last five of 25, and both add them to the count. What is taken back then is free."""
    ada = recipient_key(Channel.SMS, ADA)
    table = bench.cluster[bench.cluster.router.shard_of(ada.slot)].recipients
    assert (await table.ask([Asked(ada, 20)], 25)).words[ada.key].granted == 20
    async with table._node.connection() as holder, holder.transaction():
        await holder.execute("SELECT FROM recipient_day FOR UPDATE")  # both look before either has counted
        asking = [asyncio.create_task(table.ask([Asked(ada, 5)], 25)) for _ in range(2)]
        await bench.until(lambda: _waiting_for_locks(bench, 2), "both wait for the count")
    answers = await asyncio.gather(*asking)
    granted = [answer.words[ada.key].granted for answer in answers]
    assert sorted(granted) == [0, 5]
    day = answers[0].words[ada.key].day
    assert day is not None
    await table.take_back([Counted(ada, day, 2)], 25)
    again = [(await table.ask([Asked(ada, 1)], 25)).words[ada.key].granted for _ in range(3)]
    assert again == [1, 1, 0]


async def _waiting_for_locks(bench: Bench, count: int) -> bool:
    waiting = "SELECT count(*) AS waiting FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return sum([row["waiting"] for row in await bench.rows(waiting)]) >= count


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
    await Recipients(bench.cluster, clock=SystemClock()).set(Channel.SMS, ADA, Said(OUT, "stop"))
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
        await wrong.recipients.set(swapped, Channel.SMS, Said(OUT, "stop"))
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
                    await recipients.set(Channel.SMS, f"{number}{turn:03}", Said(OUT, "stop"))
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
            metrics=RuleMetrics(MetricRegistry()),
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
