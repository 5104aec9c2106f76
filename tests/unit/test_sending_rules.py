"""The rules together: in which situation what becomes of a message, and what receipts tell."""

import asyncio
from uuid import UUID

import msgspec
import pytest
from rules_bench import BERLIN, NIGHT, NOON, Bench, mail, receipt_of, sms

from pipeline.errors import HeldBackError, LeaseEndedError, RecipientRefusedError, StorageUnavailableError
from pipeline.notifications.rules import sending_rules
from pipeline.notifications.rules.recipient_book import Passed
from pipeline.storage.outbox import Channel, Kind, State
from pipeline.storage.recipients import RecipientKey, recipient_key
from pipeline.storage.standing import RecipientState

QUIET = {"quiet_kinds": ("order_sms", "invoice_email")}

OPTED_OUT = RecipientRefusedError("opted_out", "x")
FULL = HeldBackError("daily_cap", "x", 9.0)

US_ONLY = {"sms_countries": ("US",)}
TOTAL, COUNTRY, PREFIX = ({f"spend_segments_per_{what}hour": 5} for what in ("", "country_", "prefix_"))
AT_NIGHT, SPENT = {"now": NIGHT}, {"spent": 5}
NEW_YORK, MUNICH, NEIGHBOUR = "+12125550123", "+4989123456", BERLIN[:-1] + "9"
LATE = Kind.INVOICE_EMAIL

# Settings, situation and message; then the code under which the message does not go, None: it goes.
TABLE = {
    "nothing is set": ({}, {}, sms(), None),
    "a mail": ({}, {}, mail(), None),
    "opted out": ({}, {"error": OPTED_OUT}, sms(), "opted_out"),
    "opted out of mails": ({}, {"error": OPTED_OUT}, mail(), "opted_out"),
    "enough today": ({}, {"error": FULL}, sms(), "daily_cap"),
    "an SMS at night": (QUIET, AT_NIGHT, sms(), "quiet_hours"),
    "an SMS by day": (QUIET, {}, sms(), None),
    "an SMS where it is day": (QUIET, AT_NIGHT, sms(NEW_YORK), None),
    "a mail that is exempt, at night": (QUIET, AT_NIGHT, mail(), None),
    "a mail that is not": (QUIET, AT_NIGHT, mail(LATE), "quiet_hours"),
    "its number tells the zone": (QUIET, AT_NIGHT, mail(LATE, phone=NEW_YORK), None),
    "its country does": (QUIET, AT_NIGHT, mail(LATE, country="jp"), None),
    "no kind is quiet": ({}, AT_NIGHT, sms(), None),
    "a country that is not allowed": (US_ONLY, {}, sms(), "country"),
    "a country that is": ({"sms_countries": ("US", "DE")}, {}, sms(), None),
    "countries are about SMS": (US_ONLY, {}, mail(), None),
    "too much is spent": (TOTAL, SPENT, sms(), "spend_total"),
    "not too much": (TOTAL, {"spent": 4}, sms(), None),
    "too much for a country": (COUNTRY, SPENT, sms(), "spend_country"),
    "for another country": (COUNTRY, SPENT, sms(NEW_YORK), None),
    "too much for like numbers": (PREFIX, SPENT, sms(NEIGHBOUR), "spend_prefix"),
    "for others": (PREFIX, SPENT, sms(MUNICH), None),
    "spend is about SMS": (TOTAL, SPENT, mail(), None),
    # Who must not be texted at all is told so, whatever else would make the message wait.
    "refused before held back": ({**US_ONLY, **TOTAL}, SPENT, sms(), "country"),
}
REFUSED = {"country", "opted_out"}


@pytest.mark.parametrize(("settings", "situation", "message", "code"), TABLE.values(), ids=TABLE)
async def test_what_becomes_of_a_message(settings, situation, message, code) -> None:
    bench = Bench(**settings)
    bench.clock.wall = situation.get("now", NOON)
    bench.book.error = situation.get("error")
    bench.spending.add(BERLIN, situation.get("spent", 0))
    if code is None:
        await bench.rules.check(*message)
        channel, to = message[0].channel, message[1].to
        assert bench.book.admitted == [recipient_key(channel, to)]
        assert not bench.counted("messages_ruled")
        return
    with pytest.raises(RecipientRefusedError if code in REFUSED else HeldBackError) as caught:
        await bench.rules.check(*message)
    assert caught.value.code == code
    assert bench.book.admitted == []
    assert bench.counted("messages_ruled") == {f"{message[0].channel},{code}": 1}
    await bench.rules.settled(message[0], receipt_of(message[0], State.PENDING))
    assert bench.book.taken_back == []


async def test_a_night_ends_with_the_message_at_the_latest() -> None:
    bench = Bench(**QUIET)
    bench.clock.wall = NIGHT
    with pytest.raises(HeldBackError) as caught:
        await bench.rules.check(*sms())
    assert caught.value.retry_after_s == 4000.0  # its use ends before the night does
    bench.clock.wall = NIGHT.replace(day=2, hour=5, minute=30)
    with pytest.raises(HeldBackError) as caught:
        await bench.rules.check(*sms())
    assert caught.value.retry_after_s == 30 * 60


@pytest.mark.parametrize("when", ["before the recipient is asked", "while it is asked"])
async def test_what_expires_meanwhile_is_not_sent(when: str) -> None:
    bench = Bench()
    admit = bench.book.admit

    async def slow(recipient: RecipientKey) -> Passed:
        bench.clock.time_s = 5000.0
        return await admit(recipient)

    if when == "while it is asked":
        bench.book.admit = slow
    else:
        bench.clock.time_s = 5000.0
    with pytest.raises(LeaseEndedError):
        await bench.rules.check(*sms())
    await bench.rules.settled(sms()[0], receipt_of(sms()[0], State.PENDING))
    assert len(bench.book.taken_back) == len(bench.book.admitted) == (when == "while it is asked")


@pytest.mark.parametrize(
    ("state", "is_sent"),
    [
        *((State.ACCEPTED, True), (State.UNKNOWN, True)),
        *((State.PENDING, False), (State.FAILED, False), (State.SUPPRESSED, False), (State.EXPIRED, False)),
    ],
)
async def test_what_was_or_may_be_sent_counts_and_nothing_else(state: State, is_sent: bool) -> None:  # noqa: FBT001
    bench = Bench(spend_segments_per_hour=100)
    of, message = sms(body="x" * 200)
    await bench.rules.check(of, message)
    await bench.rules.settled(of, receipt_of(of, state))
    assert bench.counted("sms_segments") == ({"49": 2} if is_sent else {})
    assert len(bench.book.taken_back) == (not is_sent)
    await bench.rules.settled(of, receipt_of(of, state))  # there is nothing of it any more
    assert "0 under way" in repr(bench.rules)


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (sms(), "21610", (Channel.SMS, BERLIN, RecipientState.OUT, "provider:21610")),
        (sms(), "21614", None),
        (sms(), "550", None),
        (
            mail(),
            "550 5.1.1",
            (Channel.EMAIL, "Ada@example.com", RecipientState.OUT, "bounce:550 5.1.1"),
        ),
        (mail(), "550", None),
        (mail(), "553", None),
        (mail(), "550 5.7.1", None),
        (mail(), "21610", None),
        (mail(), "opted_out", None),
    ],
)
async def test_a_recipient_that_a_provider_refuses_for_good_gets_nothing_more(message, code, words) -> None:
    bench = Bench()
    of, text = message
    await bench.rules.check(of, text)
    await bench.rules.settled(of, receipt_of(of, State.SUPPRESSED, code))
    await bench.tasks.join()
    assert bench.said.words == ([words] if words else [])
    assert sum(bench.counted("opt_outs").values()) == bool(words)


async def test_a_shard_that_is_away_holds_no_receipt_up() -> None:
    bench = Bench()
    bench.said.error = StorageUnavailableError("a: away")
    of, message = sms()
    await bench.rules.check(of, message)
    await bench.rules.settled(of, receipt_of(of, State.SUPPRESSED, "21610"))
    await bench.tasks.join()
    assert not bench.counted("opt_outs")
    assert bench.crashes == []


async def test_a_word_of_a_provider_is_recorded_before_the_receipt() -> None:
    bench = Bench()
    of, message = sms()
    await bench.rules.check(of, message)
    asyncio.get_running_loop().call_later(0.02, bench.said.go.set)
    bench.said.go.clear()
    await bench.rules.settled(of, receipt_of(of, State.SUPPRESSED, "21610"))
    assert len(bench.said.words) == 1


async def test_no_message_waits_long_for_a_recipients_shard_and_the_words_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending_rules, "_WAIT_S", 0.001)
    bench = Bench()
    bench.said.go.clear()
    of, message = sms()
    for _ in range(150):
        await bench.rules.check(of, message)
        async with asyncio.timeout(1):
            await bench.rules.settled(of, receipt_of(of, State.SUPPRESSED, "21610"))
    assert "100 running" in repr(bench.tasks)
    bench.said.go.set()
    await bench.rules.drain()
    assert len(bench.said.words) == 100
    await bench.rules.check(of, message)
    await bench.rules.settled(of, receipt_of(of, State.SUPPRESSED, "21610"))
    await bench.tasks.join()
    assert len(bench.said.words) == 101


async def test_a_message_claimed_again_meanwhile_is_settled_by_its_own_receipt() -> None:
    """A lease ended, so two claims of one message are under way. The second is sent, and the first is not."""
    bench = Bench(spend_segments_per_hour=100)
    first, message = sms()
    second = msgspec.structs.replace(first, claim_id=UUID(int=99))
    for of in (first, second):
        await bench.rules.check(of, message)
    await bench.rules.settled(second, receipt_of(second, State.ACCEPTED))
    assert (bench.counted("sms_segments"), bench.book.taken_back) == ({"49": 1}, [])
    await bench.rules.settled(first, receipt_of(first, State.PENDING))
    assert (bench.counted("sms_segments"), len(bench.book.taken_back)) == ({"49": 1}, 1)
    assert "0 under way" in repr(bench.rules)
