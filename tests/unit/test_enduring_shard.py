"""Recipients of a shard whose primary goes away: its replica speaks, and nobody waits for it again."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from virtual_clock import VirtualClock

from pipeline.errors import StorageTimeoutError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.enduring_shard import EnduringShard
from pipeline.storage.recipients import Asked, RecipientKey, Word, Words

KEY = UUID(int=1)
ASKED = [Asked(RecipientKey(0, KEY), 2)]


class Server:
    """Says that a recipient is out for a reason, or raises."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.error: Exception | None = None
        self.asked: list[int] = []

    async def ask(self, asked: Sequence[Asked], _cap: int = 0) -> Words:
        self.asked.append(len(asked))
        if self.error is not None:
            raise self.error
        return Words({one.recipient.key: Word(self.reason, 0, None) for one in asked}, frozenset())


class Pair:
    def __init__(self) -> None:
        self.primary, self.replica, self.clock = Server("primary"), Server("replica"), VirtualClock()
        self.crashes: list[object] = []
        self.tasks = Tasks(lambda *crash: self.crashes.append(crash))
        self.shard = EnduringShard(
            "shard0",
            self.primary,  # type: ignore[arg-type]  # it is asked, and nothing else
            self.replica.ask,
            clock=self.clock,
            tasks=self.tasks,
        )

    async def reason(self, cap: int = 0) -> str | None:
        return (await self.shard.ask(ASKED, cap)).words[KEY].refused_for


async def test_the_primary_speaks_while_it_answers() -> None:
    pair = Pair()
    assert await pair.reason() == "primary"
    assert pair.replica.asked == []


@pytest.mark.parametrize("error", [StorageUnavailableError("gone"), StorageTimeoutError("late")])
async def test_the_replica_speaks_until_the_primary_is_back(error: Exception) -> None:
    pair = Pair()
    pair.primary.error = error
    assert await pair.reason() == "replica"
    assert [await pair.reason() for _ in range(5)] == ["replica"] * 5
    assert pair.primary.asked == [1], "nobody waits for its time-out again"
    await pair.clock.pass_by(1.0)
    assert await pair.reason() == "replica"
    await pair.tasks.join()
    assert pair.primary.asked == [1, 0], "it is tried beside the work"
    pair.primary.error = None
    await pair.clock.pass_by(1.0)
    assert await pair.reason() == "replica"
    await pair.tasks.join()
    assert await pair.reason() == "primary"
    assert pair.crashes == []


async def test_when_nobody_can_say_it_is_the_primarys_error_that_is_raised() -> None:
    pair = Pair()
    pair.primary.error = StorageUnavailableError("gone")
    pair.replica.error = StorageUnavailableError("behind")
    with pytest.raises(StorageUnavailableError, match="gone"):
        await pair.reason()
    pair.primary.error = None
    assert await pair.reason() == "primary"


async def test_under_a_cap_the_primary_alone_counts_so_nobody_else_may_speak() -> None:
    pair = Pair()
    pair.primary.error = StorageUnavailableError("gone")
    with pytest.raises(StorageUnavailableError):
        await pair.reason(cap=5)
    assert pair.replica.asked == []
