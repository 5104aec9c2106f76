"""How evenly the real ring spreads the 4096 slots over so many shards."""

from functools import cache
from math import ceil

from pipeline.sharding.ring import LOAD_BOUND
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import SLOT_COUNT


def shard_names(shards: int) -> list[str]:
    """Return names as an operator would give them."""
    return [f"shard{number}" for number in range(shards)]


@cache
def first_map(shards: int) -> ShardMap:
    """Return the map of a new installation with equal shards."""
    return ShardMap.first(dict.fromkeys(shard_names(shards), 1))


def max_to_mean(shards: int) -> float:
    """Return the fullest shard's slots over the mean; 1.0 for one shard."""
    if shards == 1:
        return 1.0
    return max(first_map(shards).shares().values()) * shards / SLOT_COUNT


def skew_bound(shards: int) -> float:
    """Return what `max_to_mean` cannot exceed, without building a ring: bounded loads give it."""
    if shards == 1:
        return 1.0
    mean = SLOT_COUNT / shards
    return ceil(mean * LOAD_BOUND) / mean


def even_shards(shards: int, skew_max: float) -> int | None:
    """Return the fewest shards, at least so many, whose skew keeps to a bound; None when there are none.

    With few slots for each shard, one slot more or less is much: 1,000 shards have 4 slots or 5.
    """
    return next((n for n in range(shards, SLOT_COUNT + 1) if skew_bound(n) <= skew_max), None)
