"""The rules together: in which situation what becomes of a message, and what receipts tell."""

from collections import Counter
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from claims import claim
from prometheus_client import CollectorRegistry

from pipeline.clock import SystemClock
from pipeline.errors import (
    HeldBackError,
    LeaseEndedError,
    ProviderError,
    RecipientRefusedError,
    StorageUnavailableError,
)
from pipeline.lifecycle import Tasks
from pipeline.notifications.notification import Email, Sms
from pipeline.notifications.rules.countries import Countries
from pipeline.notifications.rules.quiet_hours import QuietHours
from pipeline.notifications.rules.recipient_book import Passed
from pipeline.notifications.rules.sending_rules import SendingRules
from pipeline.notifications.rules.spending import Spending
from pipeline.observability.rule_metrics import RuleMetrics
from pipeline.settings import RuleSettings
from pipeline.storage.outbox import Channel, Claim, Kind, Receipt, State
from pipeline.storage.recipients import RecipientKey, recipient_key
from pipeline.storage.standing import RecipientState, Said

BERLIN = "+4930901820"
NIGHT, NOON = datetime(2026, 7, 1, 23, 0, tzinfo=UTC), datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
QUIET = {"quiet_kinds": ("order_sms", "invoice_email")}
DAY = date(2026, 7, 1)


class Turned(SystemClock):
    wall, time_s = NOON, 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.time_s


class Book:
    """A recipient book of the test's making."""

    def __init__(self) -> None:
        self.error: ProviderError | None = None
        self.admitted: list[RecipientKey] = []
        self.taken_back: list[Passed] = []

    async def admit(self, recipient: RecipientKey) -> Passed:
        if self.error:
            raise self.error
        self.admitted.append(recipient)
        return Passed(recipient, DAY)

    def take_back(self, passed: Passed) -> None:
        self.taken_back.append(passed)


class Said:
    """Takes what is said of recipients."""

    def __init__(self) -> None:
        self.words: list[tuple[Any, ...]] = []
        self.error: StorageUnavailableError | None = None

    async def set(self, channel: Channel, address: str, said: Said) -> bool:
        if self.error:
            raise self.error
        assert said.at is None  # a time of this process would not compare with another's
        self.words.append((channel, address, said.state, said.reason))
        return True


class Bench:
    def __init__(self, **settings: Any) -> None:
        self.clock, self.book, self.said = Turned(), Book(), Said()
        self.registry = CollectorRegistry()
        rules, metrics = RuleSettings(**settings), RuleMetrics(self.registry)
        tasks = Tasks(lambda _name, _error: None)
        self.spending = Spending(SimpleNamespace(), rules, metrics=metrics, clock=self.clock, tasks=tasks)
        self.rules = SendingRules(
            countries=Countries(rules.sms_countries),
            quiet=QuietHours(rules, "Europe/Berlin"),
            spending=self.spending,
            books={Channel.SMS: self.book, Channel.EMAIL: self.book},
            recipients=self.said,
            metrics=metrics,
            clock=self.clock,
        )

    def counted(self, name: str) -> Counter[str]:
        return Counter(
            {
                ",".join(sample.labels.values()): int(sample.value)
                for metric in self.registry.collect()
                for sample in metric.samples
                if sample.name == f"postorder_{name}_total"
            }
        )


def sms(to: str = BERLIN, body: str = "Thank you") -> tuple[Claim, Sms]:
    return claim(useful_until=5000.0), Sms(effect_id=UUID(int=1).hex, to=to, body=body)


def mail(kind: Kind = Kind.ORDER_EMAIL, **changes: Any) -> tuple[Claim, Email]:
    message = Email(effect_id=UUID(int=1).hex, to="Ada@example.com", subject="s", text="t", html="h")
    return claim(channel=Channel.EMAIL, kind=kind, useful_until=5000.0, **changes), message


def receipt_of(of: Claim, state: State, reason: str | None = None) -> Receipt:
    return Receipt(of.slot, of.effect_id, of.claim_id, state, reason=reason)


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
    assert bench.said.words == ([words] if words else [])
    assert sum(bench.counted("opt_outs").values()) == bool(words)


async def test_a_shard_that_is_away_holds_no_receipt_up() -> None:
    bench = Bench()
    bench.said.error = StorageUnavailableError("a: away")
    of, message = sms()
    await bench.rules.check(of, message)
    await bench.rules.settled(of, receipt_of(of, State.SUPPRESSED, "21610"))
    assert not bench.counted("opt_outs")


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
