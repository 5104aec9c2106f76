"""Whom a message goes to when its order names a customer only, and whether that customer wants it.

Kept for a while in a small book, because an order's SMS and mail ask the same. An entry counts until a notice
says that somebody of its slot has changed.
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

_Waiting = dict[str, tuple[int, "asyncio.Future[Person]"]]


class ReadPersons(Protocol):
    """Reads persons, given as slot and customer id, from a shard. Raises retryable errors."""

    async def __call__(self, shard: str, wanted: Sequence[tuple[int, str]], /) -> Answer:
        """Return the answer."""


class _Entry(NamedTuple):
    person: Person
    change: int
    until: float


class ContactBook:
    """Completes claims from what is known of persons.

    `read` and `changed` belong together: whoever reads calls `changed` for slots in which persons may have
    changed since. Lookups of one shard that come while it is being asked wait, and are then asked for in one
    statement; the pools bound how many. Mutable state: `_entries` (the least recently used first), `_changes`
    (by slot, how often somebody there has changed), `_waiting` and `_busy` (by shard), `hits`, `reads`.
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
        self._waiting: dict[str, _Waiting] = {}
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

    async def person(self, customer_id: str) -> Person:
        """Return what is known of a customer. Raises a retryable error when nobody can be asked."""
        shard, slot, _ = self._router.place(customer_id)
        entry = self._entries.get(customer_id)
        if entry is not None:
            if entry.change == self._changes[slot] and self._clock.monotonic() < entry.until:
                self._entries.move_to_end(customer_id)
                self.hits += 1
                return entry.person
            del self._entries[customer_id]
        # Shared by all who ask for the same: none of them may cancel it.
        return await asyncio.shield(self._ask(shard, slot, customer_id))

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

    def _ask(self, shard: str, slot: int, customer_id: str) -> "asyncio.Future[Person]":
        waiting = self._waiting.setdefault(shard, {})
        if customer_id not in waiting:
            future: asyncio.Future[Person] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_look)
            waiting[customer_id] = (slot, future)
            if shard not in self._busy:
                self._busy.add(shard)
                self._tasks.start(self._serve(shard), f"contacts from {shard}")
        return waiting[customer_id][1]

    async def _serve(self, shard: str) -> None:
        """Ask for all who wait, again and again until nobody does."""
        try:
            while waiting := self._waiting.pop(shard, None):
                try:
                    await self._answer(shard, waiting)
                except PostorderError as error:
                    for _, future in waiting.values():
                        if not future.done():
                            future.set_exception(error)
        finally:
            self._busy.discard(shard)

    async def _answer(self, shard: str, waiting: _Waiting) -> None:
        before = {slot: self._changes[slot] for slot, _ in waiting.values()}
        answer = await self._read(shard, [(slot, customer_id) for customer_id, (slot, _) in waiting.items()])
        self.reads += 1
        for customer_id, person in answer.found.persons.items():
            slot, future = waiting[customer_id]
            if answer.is_current:
                self._remember(customer_id, person, before[slot])
            future.set_result(person)
        if moved := answer.found.not_owned:
            await self._follow(shard, {customer_id: waiting[customer_id] for customer_id in moved})

    async def _follow(self, shard: str, moved: _Waiting) -> None:
        """Ask the new owners of slots that have moved. Raises StorageUnavailableError while there is none."""
        await self._refresh()
        for customer_id, (slot, future) in moved.items():
            owner = self._router.shard_of(slot)
            if owner == shard:
                raise StorageUnavailableError(f"{shard}: does not own the customer's slot at the moment")
            self._ask(owner, slot, customer_id).add_done_callback(_copy_to(future))

    def _remember(self, customer_id: str, person: Person, change: int) -> None:
        """Keep an answer. `change`: how often the slot had changed when it was asked for, not by now."""
        self._entries[customer_id] = _Entry(person, change, self._clock.monotonic() + TTL_S)
        self._entries.move_to_end(customer_id)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)


def _copy_to(future: "asyncio.Future[Person]") -> Callable[["asyncio.Future[Person]"], None]:
    def copy(other: "asyncio.Future[Person]") -> None:
        if future.done():
            return
        if other.cancelled():
            future.cancel()
        elif (error := other.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(other.result())

    return copy


def _look(future: "asyncio.Future[Person]") -> None:
    """Look at an outcome that perhaps nobody waits for any more, so that asyncio does not complain of it."""
    if not future.cancelled():
        future.exception()


def _has_text(contact: str | None) -> bool:
    return bool(contact and contact.strip())
