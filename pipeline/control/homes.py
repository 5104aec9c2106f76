"""Where things are kept that belong to no slot: on the homes, the first three shards of the map by name.

Three, so that they outlive a shard that is away or removed; no more, so that they cost the same with four
hundred shards as with four. When the map changes, so do the homes: what must not be lost is looked for on
every shard.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

import structlog

from pipeline.errors import PostorderError, StorageUnavailableError
from pipeline.storage.cluster import Cluster
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

T = TypeVar("T")

HOMES_MAX: Final = 3


def homes(cluster: Cluster) -> list[Shard]:
    """Return the homes by the map in force."""
    names = sorted(set(cluster.shard_map.owners))
    return [cluster[name] for name in names[:HOMES_MAX]]


async def ask_each(
    shards: Iterable[Shard], ask: Callable[[Shard], Awaitable[T]], *, timeout_s: float
) -> dict[str, T]:
    """Ask shards at once; return what those said, by name, that answered in time.

    Raises StorageUnavailableError when none did.
    """
    asked = list(shards)
    answers = await asyncio.gather(*(_answer(shard, ask, timeout_s) for shard in asked))
    found = {name: answer for name, answer, error in answers if error is None}
    if asked and not found:
        raise StorageUnavailableError(f"no shard of {len(asked)} answers: {answers[0][2]}")
    return found  # type: ignore[return-value]  # an answer without error is one


async def ask_first(
    shards: Iterable[Shard], ask: Callable[[Shard], Awaitable[T]], *, timeout_s: float
) -> tuple[str, T]:
    """Ask one shard after the other; return the first that answers in time, and what it said.

    Raises StorageUnavailableError when none did.
    """
    problem = "there is no shard"
    for shard in shards:
        name, answer, error = await _answer(shard, ask, timeout_s)
        if error is None:
            return name, answer  # type: ignore[return-value]  # as above
        problem = error
    raise StorageUnavailableError(f"no shard answers: {problem}")


async def _answer(
    shard: Shard, ask: Callable[[Shard], Awaitable[T]], timeout_s: float
) -> tuple[str, T | None, str | None]:
    """Return a shard's name, its answer, and why there is none."""
    try:
        async with asyncio.timeout(timeout_s):
            return shard.name, await ask(shard), None
    except TimeoutError:
        error = f"{shard.name}: no answer in {timeout_s:g} s"
    except PostorderError as raised:
        error = str(raised)
    log.debug("control.no_answer", shard=shard.name, error=error)
    return shard.name, None, error
