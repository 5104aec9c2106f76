"""A relay's shards share a pool: one that is away, or does not answer, leaves room for the others."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from claims import claim
from virtual_clock import VirtualClock, settle

from pipeline.errors import StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.pools.worker_pool import FixedCapacity
from pipeline.notifications.relay import Relay
from pipeline.observability.metrics import Metrics
from pipeline.storage.outbox import Channel, Claim, Receipt, State

ClaimSome = Callable[[int], Awaitable[list[Claim]]]


class Shard:
    """A shard of which only the outbox is asked for anything. `asked`: how many messages, each time."""

    def __init__(self, name: str, claim_some: ClaimSome) -> None:
        self.name = name
        self.outbox = self
        self.asked: list[int] = []
        self._claim_some = claim_some

    async def claim(self, _channel: Channel, limit: int, _claim_id: UUID) -> list[Claim]:
        self.asked.append(limit)
        return await self._claim_some(limit)

    async def release(self, _claim_id: UUID) -> None:
        """Nothing was claimed."""


class Cluster(list[Shard]):
    """Shards that neither come nor move."""

    def __init__(self, *shards: Shard) -> None:
        super().__init__(shards)
        self.on_added: list[Any] = []
        self.on_map: list[Any] = []


class Receipts:
    """Forgets at once what it is told; sends nothing."""

    def start(self) -> None:
        """Nothing to start."""

    async def record(self, _receipt: Receipt) -> None:
        """Durable already."""

    async def dispatch(self, claim: Claim) -> Receipt:
        return Receipt(claim.slot, claim.effect_id, claim.claim_id, State.ACCEPTED)


async def away(_limit: int) -> list[Claim]:
    raise StorageUnavailableError("a primary: connection refused")


def relay(clock: VirtualClock, *shards: Shard) -> Relay:
    crashes: list[BaseException] = []
    receipts: Any = Receipts()
    news: Any = SimpleNamespace(on_news=[], hears=lambda _shard: False, tell=lambda _shard: None)
    cluster: Any = Cluster(*shards)
    made = Tasks(lambda _name, error: crashes.append(error))
    return Relay(
        Channel.SMS,
        cluster=cluster,
        dispatcher=receipts,
        receipts=receipts,
        capacity=FixedCapacity(2),
        claim_max=100,
        poll_s=60.0,
        news=news,
        metrics=Metrics(),
        clock=clock,
        claiming=made,
        working=made,
        recording=made,
    )


async def test_a_shard_that_is_away_holds_no_place_while_it_is_waited_for() -> None:
    async def one(_limit: int) -> list[Claim]:
        return [claim(shard="b")] if len(there.asked) == 1 else []

    gone, there = Shard("a", away), Shard("b", one)
    tested = relay(VirtualClock(), gone, there)
    await tested.start()
    await settle()
    assert gone.asked == [4]
    assert there.asked[0] == 4  # all the places there are, although the first shard rests
    await tested.stop()


async def test_a_shard_that_failed_is_asked_for_one_message_until_it_answers() -> None:
    async def hang_after_a_failure(limit: int) -> list[Claim]:
        if len(tried.asked) > 1:
            await answered.wait()
        return await away(limit)

    async def one(_limit: int) -> list[Claim]:
        return [claim(shard="b")] if len(there.asked) < 3 else []

    clock, answered = VirtualClock(), asyncio.Event()
    tried, there = Shard("a", hang_after_a_failure), Shard("b", one)
    tested = relay(clock, tried, there)
    await tested.start()
    tested.wake("a")
    await clock.pass_by(1.0)
    tested.wake("a")
    tested.wake("b")
    await clock.pass_by(1.0)
    assert tried.asked == [4, 1]
    assert there.asked[-1] == 3  # all but the one that the first shard is asked for
    answered.set()
    await tested.stop()
