"""What is said of recipients on real shards: what was said last counts, what is said twice counts once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from real_stack import Bench
from recipient_books import ADA, book_on, code_of

from pipeline.clock import SystemClock
from pipeline.notifications.rules.recipients import Recipients
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key
from pipeline.storage.standing import RecipientState, Said

pytestmark = pytest.mark.integration

IN, OUT = RecipientState.IN, RecipientState.OUT
START = datetime(2026, 1, 1, tzinfo=UTC)


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
        await recipients.set(Channel.SMS, ADA, Said(state, reason, at(seconds)))
    for state, reason, seconds in words:  # again, as a mailbox is read again
        await recipients.set(Channel.SMS, ADA, Said(state, reason, at(seconds)))
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
        await recipients.set(Channel.EMAIL, "Ada@Example.com", Said(OUT, "unsubscribe", at(1)))
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


@pytest.mark.parametrize("ahead", ["-1 hour", "1 hour"])
async def test_a_stop_counts_whatever_the_clock_that_stamped_the_word_before(
    bench: Bench, ahead: str
) -> None:
    """A START through a shard whose clock was ahead, before its replica was promoted or the slot moved."""
    recipients = Recipients(bench.cluster, clock=SystemClock())
    await recipients.set(Channel.SMS, ADA, Said(IN, "start"))
    await bench.execute(f"UPDATE recipient SET changed_at = now() + interval '{ahead}'")
    assert await recipients.set(Channel.SMS, ADA, Said(OUT, "stop"))
    async with book_on(bench.cluster) as book:
        assert await code_of(book) == "opted_out"
    [row] = await bench.rows("SELECT recorded_at > now() - interval '5 seconds' AS is_new FROM recipient")
    assert row == {"is_new": True}


async def test_a_stop_outlives_the_bounce_it_came_after(bench: Bench) -> None:
    recipients = Recipients(bench.cluster, clock=SystemClock())
    said = [Said(OUT, "bounce:5.1.1"), Said(OUT, "unsubscribe"), Said(IN, "operator")]
    codes = []
    async with book_on(bench.cluster, 5) as book:
        for word in said:
            assert await recipients.set(Channel.SMS, ADA, word)
            codes.append(await code_of(book))
        assert codes == ["bounced", "bounced", "opted_out"]
        await recipients.set(Channel.SMS, ADA, Said(IN, "operator"))
        assert await code_of(book) is None


async def test_words_at_once_are_heard_one_after_the_other(bench: Bench) -> None:
    """Of one of whom nobody said anything: each of both finds no row, and neither may undo the other."""
    recipients = Recipients(bench.cluster, clock=SystemClock())
    numbers = [f"+141555502{last:02}" for last in range(20)]
    words = [Said(OUT, "stop"), Said(OUT, "bounce:5.1.1")]
    said = ((number, word) for number in numbers for word in words)
    await asyncio.gather(*(recipients.set(Channel.SMS, number, word) for number, word in said))
    assert {(await recipients.show(Channel.SMS, number)).reason for number in numbers} == {
        "bounce:5.1.1+stop"
    }


async def test_a_report_is_acted_on_once_whoever_gets_it_again(bench: Bench) -> None:
    """START, STOP, and START once more by the provider's repetition, to another process."""
    one, other = (Recipients(bench.cluster, clock=SystemClock()) for _ in range(2))
    assert await one.set(Channel.SMS, ADA, Said(IN, "start"), report="SM1")
    assert await one.set(Channel.SMS, ADA, Said(OUT, "stop"), report="SM2")
    assert not await other.set(Channel.SMS, ADA, Said(IN, "start"), report="SM1")
    assert (await other.show(Channel.SMS, ADA)).reason == "stop"
    assert await other.set(Channel.SMS, ADA, Said(IN, "start"), report="SM3")
    said = [one.set(Channel.SMS, ADA, Said(OUT, "stop"), report="SM4") for _ in range(8)]
    assert sum(await asyncio.gather(*said)) == 1


async def test_no_number_and_no_address_is_kept(bench: Bench) -> None:
    await Recipients(bench.cluster, clock=SystemClock()).set(Channel.SMS, ADA, Said(OUT, "stop"))
    [row] = await bench.rows("SELECT recipient::text AS row FROM recipient")
    assert "415555" not in row["row"]
