"""The rules of sending with everything around them of the test's making."""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from claims import claim

from pipeline.clock import SystemClock
from pipeline.errors import ProviderError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.notification import Email, Sms
from pipeline.notifications.rules.countries import Countries
from pipeline.notifications.rules.quiet_hours import QuietHours
from pipeline.notifications.rules.recipient_book import Passed
from pipeline.notifications.rules.sending_rules import SendingRules
from pipeline.notifications.rules.spending import Spending
from pipeline.observability.registry import MetricRegistry
from pipeline.observability.rule_metrics import RuleMetrics
from pipeline.settings import RuleSettings
from pipeline.storage.outbox import Channel, Claim, Kind, Receipt, State
from pipeline.storage.recipients import RecipientKey
from pipeline.storage.standing import Said as Word

BERLIN = "+4930901820"
NIGHT, NOON = datetime(2026, 7, 1, 23, 0, tzinfo=UTC), datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
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

    async def drain(self) -> None:
        """Nothing is left."""


class Said:
    """Takes what is said of recipients."""

    def __init__(self) -> None:
        self.words: list[tuple[Any, ...]] = []
        self.error: StorageUnavailableError | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def set(self, channel: Channel, address: str, said: Word) -> bool:
        await self.go.wait()
        if self.error:
            raise self.error
        assert said.at is None  # a time of this process would not compare with another's
        self.words.append((channel, address, said.state, said.reason))
        return True


class Bench:
    def __init__(self, **settings: Any) -> None:
        self.clock, self.book, self.said = Turned(), Book(), Said()
        self.registry = MetricRegistry()
        rules, metrics = RuleSettings(**settings), RuleMetrics(self.registry)
        self.crashes: list[BaseException] = []
        tasks, self.tasks = (Tasks(lambda _name, error: self.crashes.append(error)) for _ in range(2))
        self.spending = Spending(SimpleNamespace(), rules, metrics=metrics, clock=self.clock, tasks=tasks)
        self.rules = SendingRules(
            countries=Countries(rules.sms_countries),
            quiet=QuietHours(rules, "Europe/Berlin"),
            spending=self.spending,
            books={Channel.SMS: self.book, Channel.EMAIL: self.book},
            recipients=self.said,
            metrics=metrics,
            clock=self.clock,
            tasks=self.tasks,
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
