"""What messages will need is looked up when their claims come: for the whole set, before a worker begins."""

from collections.abc import Callable, Sequence

from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Claim
from pipeline.storage.shard import Shard


class Foresight:
    """A service. `expect` gets each set of claims of every shard; it returns at once and raises nothing.

    Workers begin one after the other, as the calls before them end, and each would ask for its message only.
    """

    name = "foresight"

    def __init__(self, cluster: Cluster, expect: Callable[[Sequence[Claim]], None]) -> None:
        self._cluster = cluster
        self._expect = expect

    def __repr__(self) -> str:
        return f"Foresight(of claims from {', '.join(self._cluster.shards)})"

    async def start(self) -> None:
        """Hear of the claims of every shard, and of those that come."""
        for shard in self._cluster:
            self._hear(shard)
        self._cluster.on_added.append(self._hear)

    async def drain(self) -> None:
        """End: whoever claims has finished before."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        if self._hear in self._cluster.on_added:
            self._cluster.on_added.remove(self._hear)
        for shard in self._cluster:
            if self._expect in shard.outbox.on_claimed:
                shard.outbox.on_claimed.remove(self._expect)

    def _hear(self, shard: Shard) -> None:
        shard.outbox.on_claimed.append(self._expect)
