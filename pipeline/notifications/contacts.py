"""Whom a message goes to when its order names a customer only, and whether that customer wants it.

Kept for a while in a small book, because an order's SMS and mail ask the same. An entry counts until a notice
says that somebody of its slot has changed. The customers of a set of claims are looked up when it comes, in
one statement for each shard: when a worker begins, what is known of its customer is there, or on its way.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import msgspec
import structlog

from pipeline.clock import Clock
from pipeline.errors import (
    PostorderError,
    RecipientRefusedError,
    RejectedError,
    StorageUnavailableError,
    ThrottledError,
)
from pipeline.lifecycle import Tasks
from pipeline.notifications.consent import check_consent
from pipeline.sharding.router import Router
from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.customers import Person
from pipeline.storage.outbox import Claim
from pipeline.storage.persons import Answer

log = structlog.get_logger(__name__)

ENTRIES_MAX = 10_000
TTL_S = 300.0  # should ever a notice get lost
_CLOCKS_APART = timedelta(seconds=10)  # of two shards, at most


class ReadPersons(Protocol):
    """Reads persons, given as slot and customer id, from a shard. Raises retryable errors."""

    async def __call__(self, shard: str, wanted: Sequence[tuple[int, str]], /) -> Answer:
        """Return the answer."""


class _Entry(NamedTuple):
    person: Person
    slot: int
    change: int
    until: float


class _Question:
    """What is asked of a customer, and who waits for the answer: a future each, so that any may give up.

    `change`: how often the slot had changed when it was asked; None: it waits to be.
    """

    def __init__(self, customer_id: str, slot: int) -> None:
        self.customer_id = customer_id
        self.slot = slot
        self.change: int | None = None
        self.waiting: list[asyncio.Future[Person]] = []

    def answer(self, person: Person) -> None:
        """Tell each who waits."""
        for future in self.waiting:
            if not future.done():
                future.set_result(person)

    def fail(self, error: PostorderError) -> None:
        """Tell each who waits that nobody can say."""
        for future in self.waiting:
            if not future.done():
                future.set_exception(error)


class ContactBook:
    """Completes claims from what is known of persons.

    `read` and `changed` belong together: whoever reads calls `changed` for slots in which persons may have
    changed since. Lookups of one shard that come while it is being asked wait, and are then asked for in one
    statement; the pools bound how many. Mutable state: `_entries` (the least recently used first), `_changes`
    (by slot, how often somebody there has changed), `_open` (by customer, the latest question without an
    answer), `_waiting` and `_busy` (by shard), `hits`, `reads`.
    """

    name = "contact book"

    def __init__(
        self,
        *,
        router: Router,
        read: ReadPersons,
        refresh: Callable[[], Awaitable[None]],
        wait_s: float,
        clock: Clock,
        tasks: Tasks,
        entries_max: int = ENTRIES_MAX,
    ) -> None:
        self._router = router
        self._read = read
        self._refresh = refresh
        self._wait_s = wait_s
        self._clock = clock
        self._tasks = tasks
        self._entries_max = entries_max
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._changes = [0] * SLOT_COUNT
        self._open: dict[str, _Question] = {}
        self._waiting: dict[str, list[_Question]] = {}
        self._busy: set[str] = set()
        self.hits = 0
        self.reads = 0

    def __repr__(self) -> str:
        return f"ContactBook({len(self._entries)} entries, {self.hits} hits, {self.reads} reads)"

    async def complete(self, claim: Claim) -> Claim:
        """Return a claim with its order's customer as the recipient.

        An order's own phone number or e-mail address goes before what is known of the customer; consent
        counts in any case. Raises RecipientRefusedError (`opted_out`, `contact_unknown`), or ThrottledError
        when nothing is known yet or nobody can be asked.
        """
        if not claim.customer_id:
            return claim
        try:
            person = await self.person(claim.customer_id)
        except PostorderError as error:
            raise ThrottledError("contacts_unavailable", str(error)) from error
        check_consent(person, claim.channel)
        if _has_text(claim.phone) or _has_text(claim.email):
            return claim
        if not person.is_known:
            if claim.age_s < self._wait_s:
                raise ThrottledError("contact_unknown", "nothing is known of the customer yet")
            raise RecipientRefusedError("contact_unknown", "nothing is known of the customer")
        return msgspec.structs.replace(
            claim,
            phone=person.phone,
            email=person.email,
            customer_name=claim.customer_name or person.name,
            locale=claim.locale or person.locale,
            country=person.country or claim.country,  # the phone number's
        )

    async def check_unchanged(self, claim: Claim, since: datetime) -> None:
        """Raise RejectedError `contact_changed` unless a message tried at `since` went where it would go now.

        Whoever asks a provider about it would ask for the new number, and learn that there is no message.
        """
        if not claim.customer_id or _has_text(claim.phone) or _has_text(claim.email):
            return
        person = await self.person(claim.customer_id)
        if person.recorded_at is None or person.recorded_at >= since - _CLOCKS_APART:
            raise RejectedError("contact_changed", "the customer's contact details have changed since")

    def expect(self, claims: Iterable[Claim]) -> None:
        """Look up the customers of claims that are about to be completed. Returns at once, raises nothing."""
        for claim in claims:
            if claim.customer_id and not claim.is_expired and self._kept(claim.customer_id) is None:
                self._question(claim.customer_id)

    async def person(self, customer_id: str) -> Person:
        """Return what is known of a customer. Raises a retryable error when nobody can be asked."""
        entry = self._kept(customer_id)
        if entry is not None:
            self._entries.move_to_end(customer_id)
            self.hits += 1
            return entry.person
        future: asyncio.Future[Person] = asyncio.get_running_loop().create_future()
        self._question(customer_id).waiting.append(future)
        return await future

    def _kept(self, customer_id: str) -> _Entry | None:
        entry = self._entries.get(customer_id)
        if entry is None:
            return None
        if entry.change == self._changes[entry.slot] and self._clock.monotonic() < entry.until:
            return entry
        del self._entries[customer_id]
        return None

    def changed(self, slots: Iterable[int]) -> None:
        """Forget what is known of the persons in some slots, also what is just being read."""
        for slot in slots:
            self._changes[slot] += 1

    async def start(self) -> None:
        """Nothing: shards are asked when somebody wants to know."""

    async def drain(self) -> None:
        """End: whoever asks has finished before."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()

    # --- asking ---------------------------------------------------------------------------------------

    def _question(self, customer_id: str) -> _Question:
        """Return the question that waits, or whose answer no change has overtaken; else a new one."""
        question = self._open.get(customer_id)
        if question is not None and question.change in (None, self._changes[question.slot]):
            return question
        shard, slot, _ = self._router.place(customer_id)
        question = self._open[customer_id] = _Question(customer_id, slot)
        self._put(shard, question)
        return question

    def _put(self, shard: str, question: _Question) -> None:
        self._waiting.setdefault(shard, []).append(question)
        if shard not in self._busy:
            self._busy.add(shard)
            self._tasks.start(self._serve(shard), f"contacts from {shard}")

    async def _serve(self, shard: str) -> None:
        """Ask for all who wait, again and again until nobody does."""
        try:
            while questions := self._waiting.pop(shard, None):
                try:
                    await self._answer(shard, questions)
                except PostorderError as error:
                    for question in questions:
                        self._fail(question, error)
        finally:
            self._busy.discard(shard)

    async def _answer(self, shard: str, questions: list[_Question]) -> None:
        for question in questions:
            question.change = self._changes[question.slot]
        answer = await self._read(shard, [(question.slot, question.customer_id) for question in questions])
        self.reads += 1
        moved = []
        for question in questions:
            person = answer.found.persons.get(question.customer_id)
            if person is None:
                moved.append(question)
                continue
            if answer.is_current:
                self._remember(question, person)
            self._close(question)
            question.answer(person)
        if moved:
            await self._follow(shard, moved)

    async def _follow(self, shard: str, moved: list[_Question]) -> None:
        """Ask the new owners of slots that have moved; while there is none, nobody can say."""
        await self._refresh()
        for question in moved:
            owner = self._router.shard_of(question.slot)
            if owner == shard:
                self._fail(
                    question,
                    StorageUnavailableError(f"{shard}: does not own the customer's slot at the moment"),
                )
            else:
                question.change = None
                self._put(owner, question)

    def _fail(self, question: _Question, error: PostorderError) -> None:
        self._close(question)
        question.fail(error)

    def _close(self, question: _Question) -> None:
        if self._open.get(question.customer_id) is question:
            del self._open[question.customer_id]

    def _remember(self, question: _Question, person: Person) -> None:
        """Keep an answer, as of when it was asked for: it does not count if the slot has changed since."""
        assert question.change is not None
        until = self._clock.monotonic() + TTL_S
        self._entries[question.customer_id] = _Entry(person, question.slot, question.change, until)
        self._entries.move_to_end(question.customer_id)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)


def _has_text(contact: str | None) -> bool:
    return bool(contact and contact.strip())
