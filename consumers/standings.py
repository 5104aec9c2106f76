"""Recipients of shards, and what replicas say of them while their primaries are away."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

import msgspec

from pipeline.clock import Clock
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.enduring_shard import EnduringShard
from pipeline.notifications.rules.recipient_book import RecipientShard
from pipeline.reading.consistency import Consistency, Mode
from pipeline.reading.pair import PairReader, Query
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.recipients import Asked, Word, Words

_DECODE = msgspec.json.Decoder(list[tuple[UUID, bool, str | None]]).decode


class Standings:
    """A service. Mutable state: `_shards`, and `_pairs`, opened when first asked: most never are."""

    name = "standings"

    def __init__(self, settings: Settings, cluster: Cluster, *, clock: Clock, tasks: Tasks) -> None:
        self._settings = settings
        self._cluster = cluster
        self._clock = clock
        self._tasks = tasks
        self._shards: dict[str, EnduringShard] = {}
        self._pairs: dict[str, PairReader] = {}

    def __repr__(self) -> str:
        return f"Standings({', '.join(self._pairs)})"

    def shard(self, name: str) -> RecipientShard:
        """Return a shard's recipients."""
        if name not in self._shards:
            self._shards[name] = EnduringShard(
                name,
                self._cluster[name].recipients,
                partial(self._ask_replica, name),
                clock=self._clock,
                tasks=self._tasks,
            )
        return self._shards[name]

    async def _ask_replica(self, shard: str, asked: Sequence[Asked]) -> Words:
        """Return what a shard's replica says, if it shows all that was acknowledged. Nothing is counted.

        Raises StorageUnavailableError or StorageTimeoutError.
        """
        if shard not in self._pairs:
            self._pairs[shard] = PairReader(self._cluster[shard].settings, self._settings)
        slots = [recipient.slot for recipient, _ in asked]
        keys = [recipient.key for recipient, _ in asked]
        query = Query("standings", (slots, keys))
        reply = await self._pairs[shard].read(query, mode=Mode.REPLICA, consistency=Consistency.LATEST)
        granted = {recipient.key: messages for recipient, messages in asked}
        said = _DECODE(reply.data)
        words = {key: Word(why, granted[key], None) for key, is_owned, why in said if is_owned}
        return Words(words, frozenset(key for key, is_owned, _ in said if not is_owned))

    async def start(self) -> None:
        """Do nothing: replicas are asked when a primary is away."""

    async def drain(self) -> None:
        """Do nothing: whoever asks has finished before."""

    async def stop(self) -> None:
        """End, and close every connection."""
        await self._tasks.cancel()
        pairs, self._pairs = self._pairs, {}
        for pair in pairs.values():
            await pair.close()
