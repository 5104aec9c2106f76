"""Shards as far as recipients go, of the test's making: what they hold, and what they were asked."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import date

from pipeline.clock import SystemClock
from pipeline.errors import PostorderError
from pipeline.storage.recipients import Asked, Counted, RecipientKey, Word, Words

DAY = date(2026, 7, 1)


class QuickClock(SystemClock):
    """A clock whose sleeps end at once, and take their time all the same."""

    time_s = 0.0

    def monotonic(self) -> float:
        return self.time_s

    async def sleep(self, delay_s: float) -> None:
        self.time_s += delay_s
        await asyncio.sleep(0)


class Shards:
    """What shards hold, and what they were asked."""

    def __init__(self) -> None:
        self.owner = "a"
        self.out: dict[RecipientKey, str] = {}
        self.counts: Counter[RecipientKey] = Counter()
        self.asked: list[tuple[str, list[Asked]]] = []
        self.error: PostorderError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.was_asked, self.taken_back = asyncio.Event(), asyncio.Event()

    def shard(self, name: str) -> "Shard":
        return Shard(self, name)


class Shard:
    def __init__(self, shards: Shards, name: str) -> None:
        self._shards, self._name = shards, name

    async def ask(self, asked: Sequence[Asked], cap: int) -> Words:
        shards = self._shards
        shards.asked.append((self._name, list(asked)))
        shards.was_asked.set()
        await shards.gate.wait()
        if shards.error:
            raise shards.error
        if self._name != shards.owner:
            return Words({}, frozenset(one.recipient.key for one in asked))
        words = {}
        for recipient, wanted in asked:
            why = shards.out.get(recipient)
            room = max(0, cap - shards.counts[recipient]) if cap else wanted
            granted = 0 if why else min(wanted, room)
            shards.counts[recipient] += granted
            words[recipient.key] = Word(why, granted, DAY if cap else None)
        return Words(words, frozenset())

    async def take_back(self, counted: Sequence[Counted], cap: int) -> None:
        assert cap
        if self._shards.error:
            raise self._shards.error
        for recipient, day, messages in counted:
            assert day == DAY
            self._shards.counts[recipient] -= messages
        self._shards.taken_back.set()
