"""Where things are kept that belong to no slot: on the homes, the first three shards of the map by name.

Three, so that they outlive a shard that is away or removed; no more, so that they cost the same with four
hundred shards as with four. When the map changes, so do the homes: what must not be lost is looked for on
every shard.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from pipeline.errors import StorageUnavailableError
from pipeline.storage.cluster import Cluster
from pipeline.storage.partial import of_each
from pipeline.storage.shard import Shard

T = TypeVar("T")

HOMES_MAX: Final = 3


def homes(cluster: Cluster) -> list[Shard]:
    """Return the homes by the map in force."""
    names = sorted(set(cluster.shard_map.owners))
    return [cluster[name] for name in names[:HOMES_MAX]]


async def ask_first(
    shards: Iterable[Shard], ask: Callable[[Shard], Awaitable[T]], *, timeout_s: float
) -> tuple[str, T]:
    """Ask one shard after the other; return the first that answers in time, and what it said.

    Raises StorageUnavailableError when none did, and what is wrong with the question itself.
    """
    error = StorageUnavailableError("there is no shard")
    for shard in shards:
        try:
            return shard.name, (await of_each([shard], ask, timeout_s=timeout_s)).answers[shard.name]
        except StorageUnavailableError as nobody:
            error = nobody
    raise error
