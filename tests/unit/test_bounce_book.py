"""Bounces while slots move: one for a mail that lives elsewhere by now is no bounce for nobody."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from pipeline.clock import SystemClock
from pipeline.notifications.rules.bounce_book import BounceBook
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import SLOT_COUNT, slot_of_digest
from pipeline.storage.effects import Applied, ProviderStatus
from pipeline.storage.recipients import SentMail

ORDERS, INVOICES = (UUID(int=(0xABCD << 112) + last) for last in (2, 3))
ADDRESS = "ada@example.com"


class Shard:
    """One shard, as far as bounces go: it speaks for all slots or for none, and knows one mail."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.cluster, self.name = cluster, name
        self.recipients = self.effects = self.primary = self

    @property
    def is_owner(self) -> bool:
        return self.cluster.owner == self.name

    async def mail(self, slots: Sequence[int], effect_id: UUID) -> SentMail | None:
        known = SentMail(
            slot=slot_of_digest(effect_id.bytes),
            provider="smtp",
            provider_id=None,
            email=self.cluster.email,
            customer_id="c-7",
            status_at=self.cluster.status_at,
        )
        is_here = self.is_owner and effect_id in (ORDERS, INVOICES)
        self.cluster.looked += 1
        if self.cluster.moves_when_asked:
            self.cluster.owner, self.cluster.moves_when_asked = "b", False
        return known if is_here and known.slot in slots else None

    async def apply_statuses(self, statuses: Sequence[ProviderStatus]) -> Applied:
        if not self.is_owner:
            return Applied({}, frozenset(status.slot for status in statuses))
        return Applied({"old" if self.cluster.status_at else "applied": len(statuses)}, frozenset())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Shard"]:
        yield self

    async def fetchval(self, _statement: str) -> None:
        return None

    async def fetch(self, _statement: str, _slots: Any, customers: Sequence[str]) -> list[dict[str, Any]]:
        nothing = dict.fromkeys(("name", "phone", "locale", "country", "recorded_at"))
        person = {**nothing, "known": True, "opted_out": [], "email": ADDRESS, "owned": self.is_owner}
        if not self.is_owner:
            self.cluster.owner = "b"
        return [{**person, "customer_id": customer} for customer in customers]


class Cluster:
    """Two shards. `owner` has all slots; the map that is in force here may be an older one."""

    def __init__(self, owner: str, *, email: str | None = ADDRESS, moves_when_asked: bool = False) -> None:
        self.owner, self.email, self.moves_when_asked = owner, email, moves_when_asked
        self.router = Router(ShardMap(1, ("a",) * SLOT_COUNT))
        self.shards = {name: Shard(self, name) for name in ("b", "a")}
        self.looked = 0
        self.status_at: datetime | None = None

    def __getitem__(self, name: str) -> Shard:
        return self.shards[name]

    async def refresh(self) -> None:
        epoch = 1 if self.owner == "a" else 2
        self.router.adopt(ShardMap(epoch, (self.owner,) * SLOT_COUNT))


class Said:
    """Recipients, and what was said of them."""

    def __init__(self) -> None:
        self.words: list[tuple[Any, ...]] = []

    async def set(self, *word: Any, report: str) -> bool:
        self.words.append((*word, report))
        return True


def bounce(effect_id: UUID, status: str = "5.7.1") -> bytes:
    head = f"X-Failed-Recipients: {ADDRESS}\nIn-Reply-To: <{effect_id.hex}@shop.example>"
    return f"{head}\n\n550 {status} no\n".encode()


def book_on(cluster: Cluster, said: Said | None = None) -> BounceBook:
    return BounceBook(cluster, said or Said(), domains=["shop.example"], clock=SystemClock())


@pytest.mark.parametrize("effect_id", [ORDERS, INVOICES], ids=["an order's", "an invoice's"])
async def test_a_mail_is_found_by_the_newest_map(effect_id: UUID) -> None:
    assert await book_on(Cluster("b")).take(bounce(effect_id)) == {"applied": 1}


async def test_a_mail_that_moves_past_the_question_is_asked_for_again() -> None:
    """`b` is asked before it has the mail, and `a` when it has it no more."""
    assert await book_on(Cluster("a", moves_when_asked=True)).take(bounce(INVOICES)) == {"applied": 1}


async def test_the_customers_address_is_asked_of_whoever_has_it_by_now() -> None:
    assert await book_on(Cluster("b", email=None)).take(bounce(INVOICES)) == {"applied": 1}


@pytest.mark.parametrize("known", [None, datetime(2026, 3, 1, tzinfo=UTC)], ids=["news", "read again"])
async def test_a_bounce_read_again_says_it_of_the_time_before(known: datetime | None) -> None:
    """Else each look through an mbox file would undo what an operator has allowed since."""
    cluster, said = Cluster("a"), Said()
    cluster.status_at = known
    outcome = "old" if known else "applied"
    assert await book_on(cluster, said).take(bounce(ORDERS, "5.1.1")) == {outcome: 1, "taken_off": 1}
    [(_channel, _address, word, report)] = said.words
    assert (word.reason, word.at) == ("bounce:5.1.1", known)  # news are of the time of the server's clock
    assert report == f"bounce {ORDERS.hex} 5.1.1"


async def test_what_there_is_none_of_is_said_after_one_look() -> None:
    cluster = Cluster("a")
    assert await book_on(cluster).take(bounce(UUID(int=2))) == {"no_such_mail": 1}
    assert cluster.looked == 1
