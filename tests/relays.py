"""A relay on shards of which only the ledger is asked for anything, and whoever sends for it."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from virtual_clock import VirtualClock

from pipeline.errors import StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.pools.worker_pool import FixedCapacity
from pipeline.notifications.receipts import ReceiptBook
from pipeline.notifications.relay import Relay
from pipeline.observability.metrics import Metrics
from pipeline.storage.outbox import Channel, Claim, Receipt, Recorded, State

ClaimSome = Callable[[int], Awaitable[list[Claim]]]


class Shard:
    """A shard of which only the outbox is asked for anything.

    `asked`: for how many messages, each time. `recorded`: how many receipts. `takes_receipts`: else it is
    away for them. `anew`: how often everything was to be looked at.
    """

    def __init__(self, name: str, claim_some: ClaimSome) -> None:
        self.name = name
        self.outbox = self
        self.asked: list[int] = []
        self.recorded = 0
        self.takes_receipts = True
        self.anew = 0
        self._claim_some = claim_some

    async def claim(self, _channel: Channel, limit: int, _claim_id: UUID) -> list[Claim]:
        self.asked.append(limit)
        return await self._claim_some(limit)

    async def release(self, _claim_id: UUID) -> None:
        """Nothing was claimed."""

    async def record(self, _channel: Channel, receipts: Sequence[Receipt]) -> Recorded:
        if not self.takes_receipts:
            raise StorageUnavailableError("a primary: connection refused")
        self.recorded += len(receipts)
        return Recorded(Counter(receipt.state for receipt in receipts), 0)

    def look_anew(self) -> None:
        self.anew += 1


class Cluster(dict[str, Shard]):
    """Shards that neither come nor move: their slots are numbered as they are."""

    def __init__(self, *shards: Shard) -> None:
        super().__init__({shard.name: shard for shard in shards})
        self.router = SimpleNamespace(shard_of=lambda slot: shards[slot].name)
        self.on_added: list[Any] = []
        self.on_map: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())


class Sender:
    """Sends everything, to nobody."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()

    async def dispatch(self, claim: Claim) -> Receipt:
        self.sent[claim.shard] += 1
        return Receipt(claim.slot, claim.effect_id, claim.claim_id, State.ACCEPTED)


async def away(_limit: int) -> list[Claim]:
    raise StorageUnavailableError("a primary: connection refused")


def relay(
    clock: VirtualClock,
    *shards: Shard,
    sender: Any = None,
    metrics: Metrics | None = None,
    grace_s: float = 0.0,
) -> Relay:
    crashes: list[BaseException] = []
    news: Any = SimpleNamespace(on_news=[], hears=lambda _shard: False, tell=lambda _shard: None)
    cluster: Any = Cluster(*shards)

    def tasks() -> Tasks:
        return Tasks(lambda _name, error: crashes.append(error))

    metrics = metrics or Metrics()
    return Relay(
        Channel.SMS,
        cluster=cluster,
        dispatcher=sender or Sender(),
        receipts=ReceiptBook(
            Channel.SMS, cluster, gather_s=0.005, metrics=metrics, clock=clock, tasks=tasks()
        ),
        capacity=FixedCapacity(2),
        claim_max=100,
        poll_s=60.0,
        grace_s=grace_s,
        news=news,
        metrics=metrics,
        clock=clock,
        claiming=tasks(),
        working=tasks(),
    )
