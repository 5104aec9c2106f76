"""News of the outbox: a process that commits messages wakes the processes that send, which need not poll.

A notice is a statement of its own, after the commit: inside the transaction of intake it would have all
commits of a database wait for each other. It may be lost with the connection, so who listens looks by itself
now and then.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Final
from uuid import uuid4

import asyncpg
import structlog

from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.storage.cluster import Cluster
from pipeline.storage.listener import Listener
from pipeline.storage.low_water import NEAR
from pipeline.storage.shard import Shard
from pipeline.storage.statements import OUTBOX

log = structlog.get_logger(__name__)

CHANNEL: Final = "postorder_outbox"
GAP_S: Final = 0.005
"""Between two notices of a shard, so that a busy intake does not pay for each of its commits."""
AWAY_S: Final = NEAR.total_seconds()
"""After being deaf to a shard for longer, what became visible meanwhile may lie where nobody looks."""


class OutboxNews:
    """A service: tells other processes of new messages, and hears of theirs when it `listens`.

    `on_news` are called with a shard's name when messages were committed there, by whomever, and whenever
    notices may have been missed. Mutable state: `_heard`, the shards that are listened to at the moment;
    `_untold`, an event for each shard.
    """

    name = "outbox news"

    def __init__(self, cluster: Cluster, *, listens: bool, clock: Clock, tasks: Tasks) -> None:
        self._cluster = cluster
        self._listens = listens
        self._clock = clock
        self._tasks = tasks
        self._sender = uuid4().hex[:8]  # who commits has woken its own senders already
        self._heard: set[str] = set()
        self._untold: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.on_news: list[Callable[[str], None]] = []

    def __repr__(self) -> str:
        return f"OutboxNews(listening to {', '.join(sorted(self._heard)) or 'nobody'})"

    def hears(self, shard: str) -> bool:
        """Whether news of a shard come by themselves at the moment."""
        return shard in self._heard

    def tell(self, shard: str) -> None:
        """Say that messages were committed on a shard by this process."""
        self._spread(shard)
        self._untold[shard].set()

    async def start(self) -> None:
        """Tell, and listen, on every shard and on those that come."""
        for shard in self._cluster:
            self._add(shard)
        self._cluster.on_added.append(self._add)

    async def drain(self) -> None:
        """Do nothing: news are told as long as anything is committed."""

    async def stop(self) -> None:
        """End. What was not told is found by who looks."""
        if self._add in self._cluster.on_added:
            self._cluster.on_added.remove(self._add)
        await self._tasks.cancel()

    def _add(self, shard: Shard) -> None:
        self._tasks.start(self._tell_forever(shard), f"tell of {shard.name}'s outbox")
        if self._listens:
            self._tasks.start(self._listener(shard).run(), f"listen to {shard.name}'s outbox")

    async def _tell_forever(self, shard: Shard) -> None:
        untold = self._untold[shard.name]
        while True:
            await untold.wait()
            untold.clear()
            try:
                async with shard.primary.connection() as connection:
                    await connection.execute(OUTBOX["tell"], CHANNEL, self._sender)
            except PostorderError as error:  # the senders look by themselves when they lose the server too
                log.debug("outbox.untold", shard=shard.name, error=str(error))
            await self._clock.sleep(GAP_S)

    def _listener(self, shard: Shard) -> Listener:
        is_alive, heard_at = False, self._clock.monotonic()

        def on_notice(sender: str) -> None:
            nonlocal is_alive
            is_alive = True
            if sender != self._sender:
                self._spread(shard.name)

        async def attend(connection: asyncpg.Connection) -> None:
            nonlocal is_alive, heard_at
            if not is_alive:  # after a silence: a server that is gone without a word shows now
                await connection.execute("SELECT 1")
            is_alive = False
            if shard.name not in self._heard:
                if self._clock.monotonic() - heard_at > AWAY_S:
                    shard.outbox.look_anew()
                self._heard.add(shard.name)
                self._spread(shard.name)
            heard_at = self._clock.monotonic()

        def on_lost() -> None:
            self._heard.discard(shard.name)
            self._spread(shard.name)

        return Listener(
            shard, CHANNEL, on_notice=on_notice, attend=attend, on_lost=on_lost, clock=self._clock
        )

    def _spread(self, shard: str) -> None:
        for tell in self.on_news:
            tell(shard)
