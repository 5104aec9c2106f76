"""Flow two: owed messages are claimed, sent by a pool of workers, and their receipts recorded."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.notifications.pools.worker_pool import Capacity, WorkerPool
from pipeline.notifications.receipts import ReceiptBook
from pipeline.observability.metrics import Metrics
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel, Claim, Receipt, State
from pipeline.storage.outbox_news import OutboxNews
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_RETRY = Backoff(base_s=0.2, ceiling_s=5.0)
_IDLE_MAX_S: Final = 10.0
"""An idle shard is looked at this often, for what a lost notice or a straggling transaction left."""
_PAUSE_S: Final = 15.0
"""A shard that was not looked at for so long, although it should have been, is looked at anew."""
_PACE_S: Final = 0.025
"""From one claim of few messages to the shard's next at least, so that those that come close go as a set."""
_OPEN_SHARE: Final = 2
"""So many times as many receipts of one shard as there are workers may be open; then it rests."""


class Dispatches(Protocol):
    """What a relay asks of a Dispatcher, or of one that is traced."""

    async def dispatch(self, claim: Claim) -> Receipt:
        """Send a message once and return its receipt. Raises nothing but cancellation."""


class _Course:
    """How claiming from one shard goes.

    Mutable state: `failures` in a row, and for how long to rest after the last; `doubtful`, the claim whose
    commit may have happened unanswered; `_looked_at`, when a claim succeeded last.
    """

    def __init__(self, now: float) -> None:
        self.failures = 0
        self.delay_s = 0.0
        self.doubtful: UUID | None = None
        self._looked_at = now

    def was_paused(self, now: float) -> bool:
        """Return whether nobody looked for so long that messages may lie where nobody looks; says so once."""
        is_long = now - self._looked_at > _PAUSE_S
        if is_long:
            self._looked_at = now
        return is_long

    def failed(self, claim_id: UUID) -> None:
        """Note a failure. What it may have claimed is to be given back before anything else is claimed."""
        self.doubtful = self.doubtful or claim_id
        self.failures += 1
        self.delay_s = _RETRY.delay_s(self.failures)

    def succeeded(self, now: float) -> None:
        """Note that the shard answered."""
        self.failures = 0
        self._looked_at = now


class Relay:
    """One channel: claims from every shard into one pool.

    While `news` come from a shard and nothing is due there, it sleeps until something will be; otherwise it
    looks every `poll_s`. A worker does not wait for its receipt: those of a shard that is away for a while
    would hold up all workers, and with them the other shards' messages. Such a shard's receipts are bounded
    instead, see `_open_max`. `grace_s`: for so long messages of the channel wait on purpose at first.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        cluster: Cluster,
        dispatcher: Dispatches,
        receipts: ReceiptBook,
        capacity: Capacity,
        claim_max: int,
        poll_s: float,
        grace_s: float,
        news: OutboxNews,
        metrics: Metrics,
        clock: Clock,
        claiming: Tasks,
        working: Tasks,
    ) -> None:
        self.name = f"{channel} relay"
        self._channel = channel
        self._cluster = cluster
        self._dispatcher = dispatcher
        self._receipts = receipts
        self._claim_max = claim_max
        self._poll_s = poll_s
        self._grace = timedelta(seconds=grace_s)
        self._news = news
        self._metrics = metrics
        self._clock = clock
        self._claiming = claiming
        self._pool = WorkerPool(channel, capacity=capacity, work=self._work, tasks=working)
        self._working = working
        self._open_max = _OPEN_SHARE * capacity.ceiling
        self._draining = False
        self._wake: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def __repr__(self) -> str:
        return f"Relay({self._channel}: {self._pool!r})"

    @property
    def pool(self) -> WorkerPool:
        """Its pool, to be looked at."""
        return self._pool

    def wake(self, shard: str) -> None:
        """Say that a shard has new rows, so that it is looked at now and not at the next poll."""
        self._wake[shard].set()

    async def start(self) -> None:
        """Start claiming and sending."""
        self._metrics.in_flight.labels(self._channel).set_function(lambda: self._pool.busy)
        self._metrics.pool_waiting.labels(self._channel).set_function(lambda: self._pool.waiting)
        self._receipts.start()
        self._pool.start()
        for shard in self._cluster:
            self._add(shard)
        self._cluster.on_added.append(self._add)
        self._cluster.on_map.append(self._wake_all)
        self._news.on_news.append(self.wake)

    def _wake_all(self) -> None:
        """Look everywhere: slots that came brought messages along."""
        for shard in self._cluster:
            self.wake(shard.name)

    def _add(self, shard: Shard) -> None:
        if not self._draining:
            self._claiming.start(self._claim_from(shard), f"{self._channel} claims {shard.name}")

    async def drain(self) -> None:
        """Claim no more, give back what no worker has begun, finish the calls under way."""
        self._draining = True
        await self._claiming.cancel()
        for untried in self._pool.take_waiting():
            self._give_back(untried)
        await self._pool.finish()
        await self._receipts.drain()

    async def stop(self) -> None:
        """End at once. What was claimed becomes unknown when its lease ends."""
        self._draining = True
        self._listen_no_more()
        await self._claiming.cancel()
        await self._working.cancel()
        await self._receipts.stop()

    async def _claim_from(self, shard: Shard) -> None:
        wake = self._wake[shard.name]
        course = _Course(self._clock.monotonic())
        while True:
            await self._receipts.until_few(shard.name, self._open_max)
            # A shard that failed just now gets one place, so that the others need not wait for its answer.
            places = await self._pool.reserve(1 if course.failures else self._claim_max)
            wake.clear()
            began = self._clock.monotonic()
            claims = await self._try(shard, places, course)
            if course.failures:
                await self._clock.sleep(course.delay_s)  # on no place of the pool
            if len(claims) < places:
                is_idle = not claims and not course.failures
                await self._wait(wake, await self._idle_s(shard) if is_idle else self._poll_s)
                await self._rest(began + _PACE_S)

    async def _rest(self, until: float) -> None:
        if (rest_s := until - self._clock.monotonic()) > 0:
            await self._clock.sleep(rest_s)

    async def _try(self, shard: Shard, places: int, course: "_Course") -> list[Claim]:
        """Claim into places that were reserved, and free those that are left. An error is logged."""
        claims: list[Claim] = []
        claim_id = uuid4()
        if course.was_paused(self._clock.monotonic()):
            shard.outbox.look_anew()
        try:
            if course.doubtful is not None:
                await shard.outbox.release(course.doubtful)
                course.doubtful = None
            claims = await self._claim(shard, places, claim_id)
        except PostorderError as error:
            course.failed(claim_id)
            log.warning(
                "claim.failed", shard=shard.name, error=str(error), retry_in_s=round(course.delay_s, 2)
            )
        else:
            course.succeeded(self._clock.monotonic())
        finally:
            self._pool.give_back(places - len(claims))
        return claims

    async def _claim(self, shard: Shard, places: int, claim_id: UUID) -> list[Claim]:
        """Claim, shielded: a claim cut off half-way would be durable and known to nobody."""
        claiming = asyncio.ensure_future(shard.outbox.claim(self._channel, places, claim_id))
        try:
            claims = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with suppress(PostorderError):  # then nothing was claimed, and being cancelled is what counts
                for claim in await claiming:
                    self._pool.put(claim)
            raise
        self._metrics.claims.labels(self._channel).inc(len(claims))
        for claim in claims:
            if claim.attempt == 1:
                self._metrics.committed_to_claimed.observe(claim.kind, claim.age_s)
            self._pool.put(claim)
        return claims

    async def _idle_s(self, shard: Shard) -> float:
        """Return for how long a shard need not be looked at unless it calls."""
        if not self._news.hears(shard.name):
            return self._poll_s
        try:
            due_in_s = await shard.outbox.next_due(self._channel)
        except PostorderError:  # the next claim says what is wrong
            return self._poll_s
        if due_in_s is None:
            return _IDLE_MAX_S
        # What is due and could not be claimed is somebody else's for now.
        return min(due_in_s, _IDLE_MAX_S) if due_in_s > 0 else self._poll_s

    @staticmethod
    async def _wait(wake: asyncio.Event, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await wake.wait()
        except TimeoutError:
            pass  # nobody called; look anyway, because a grace window or a retry may have ended

    async def _work(self, claim: Claim) -> None:
        receipt = await self._dispatcher.dispatch(claim)
        self._receipts.put(receipt, partial(self._recorded, claim, receipt))

    def _recorded(self, claim: Claim, receipt: Receipt) -> None:
        if receipt.state is State.PENDING:
            self.wake(claim.shard)  # it is to know when this one is due again
        if receipt.state is State.ACCEPTED and receipt.accepted_at is not None:
            waited_s = (receipt.accepted_at - claim.created_at).total_seconds()
            self._metrics.created_to_accepted.observe(claim.kind, max(0.0, waited_s))
            self._metrics.claimed_to_accepted.observe(claim.kind, max(0.0, waited_s - claim.age_s))
            if not claim.was_held:
                late_s = (receipt.accepted_at - self._first_due(claim)).total_seconds()
                self._metrics.due_to_accepted.observe(claim.kind, max(0.0, late_s))

    def _first_due(self, claim: Claim) -> datetime:
        """Return when a message was to go first: later tries, and processes that end, put `due_at` off."""
        graced = claim.created_at + self._grace
        return graced if claim.due_at is None else min(claim.due_at, graced)

    def _listen_no_more(self) -> None:
        for told, tell in (
            (self._cluster.on_added, self._add),
            (self._cluster.on_map, self._wake_all),
            (self._news.on_news, self.wake),
        ):
            if tell in told:
                told.remove(tell)  # type: ignore[arg-type]

    def _give_back(self, claim: Claim) -> None:
        untried = Receipt(claim.slot, claim.effect_id, claim.claim_id, State.PENDING, is_untried=True)
        # Another process may have it at once.
        self._receipts.put(untried, partial(self._news.tell, claim.shard))
