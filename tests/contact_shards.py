"""A contact book over shards that a test holds in its hands."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from claims import claim as any_claim

from pipeline.clock import SystemClock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.notifications.contacts import ContactBook
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import SLOT_COUNT, slot_of
from pipeline.storage.customers import Person, PersonsRead
from pipeline.storage.outbox import Claim
from pipeline.storage.persons import Answer

ADA = Person(is_known=True, name="Ada", email="ada@example.com", phone="030 901820", country="DE")
NOBODY = Person(is_known=False)


class TurnedClock(SystemClock):
    """A clock that tests turn."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return self.ahead_s


class Shards:
    """What shards hold, and what they were asked: by shard, the customers of each question."""

    def __init__(self) -> None:
        self.persons: dict[str, Person] = {}
        self.asked: list[tuple[str, list[str]]] = []
        self.error: PostorderError | None = None
        self.is_current = True
        self.owners = ["a"] * SLOT_COUNT
        self.was_asked, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def read(self, shard: str, wanted: Sequence[tuple[int, str]]) -> Answer:
        names = [name for slot, name in wanted if slot == slot_of(name)]
        self.asked.append((shard, names))
        found = {name: self.persons.get(name, NOBODY) for name in names}
        self.was_asked.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        mine = {name for name in names if self.owners[slot_of(name)] == shard}
        persons = {name: person for name, person in found.items() if name in mine}
        return Answer(PersonsRead(persons, frozenset(names) - mine, None), self.is_current)


@asynccontextmanager
async def book_over(shards: Shards, clock: TurnedClock, entries_max: int = 3) -> AsyncIterator[ContactBook]:
    crashes: list[BaseException] = []
    router = Router(ShardMap(1, ("a",) * SLOT_COUNT))

    async def refresh() -> None:
        router.adopt(ShardMap(router.epoch + 1, tuple(shards.owners)))

    made = ContactBook(
        router=router,
        read=shards.read,
        refresh=refresh,
        wait_s=5,
        clock=clock,
        tasks=Tasks(lambda _name, error: crashes.append(error)),
        entries_max=entries_max,
    )
    yield made
    await made.stop()
    assert crashes == []


def claim(**changes) -> Claim:
    return any_claim(**{"customer_id": "c-1", **changes})
