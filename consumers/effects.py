"""What `postorder effects`, `postorder timeline` and the API do: find messages, tell their story.

Each does what the shards that answer can do. Raises StorageUnavailableError, naming who is away, when that is
not enough.
"""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from consumers.reachable import reachable
from pipeline.errors import EffectError, NoSuchEffectError
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.effect_desk import INDEXED, THROUGH_S, Effect, EffectDesk, Story, Wanted
from pipeline.storage.outbox import State
from pipeline.storage.partial import TIMEOUT_S, of_each
from pipeline.storage.shard import Shard


class Found(msgspec.Struct, frozen=True):
    """A message and the story of its order."""

    effect: Effect
    story: Story


class Listed(msgspec.Struct, frozen=True):
    """Messages, those owed longest ago first, and why shards that may have more did not answer."""

    effects: list[Effect]
    missing: dict[str, str]


async def list_effects(settings: Settings, wanted: Wanted, limit: int) -> Listed:
    """Return messages of all shards."""
    async with reachable(settings) as cluster:
        return await listed_of(cluster, wanted, limit, timeout_s=THROUGH_S)


async def find_effect(settings: Settings, digits: str) -> Found:
    """Return the message whose id begins with some digits.

    Raises EffectError when it is not just one, and StorageUnavailableError when a shard that is away may
    have it.
    """
    async with reachable(settings) as cluster:
        return await found_of(cluster, digits, timeout_s=THROUGH_S)


async def resolve_effect(
    settings: Settings, seen: Effect, state: State, *, provider_id: str | None, because: str, actor: str
) -> None:
    """Say what became of a message as it was seen. Raises EffectError, SlotsMovedError."""
    async with reachable(settings) as cluster:
        await resolved_in(cluster, seen, state, provider_id=provider_id, because=because, actor=actor)


async def order_story(settings: Settings, order_id: str) -> Story:
    """Return what is known of an order's messages; all of it empty when nothing is."""
    async with reachable(settings) as cluster:
        return await story_of(cluster, order_id)


# --- on shards that are open -----------------------------------------------------------------------


def merged(parts: Iterable[list[Effect]], limit: int) -> list[Effect]:
    """Return messages of several shards, those owed longest ago first."""
    every = [one for part in parts for one in part]
    return sorted(every, key=lambda one: (one.created_at, one.effect_id))[:limit]


async def listed_of(cluster: Cluster, wanted: Wanted, limit: int, *, timeout_s: float) -> Listed:
    """As `list_effects`. `timeout_s`: what a shard may take at most, where it reads its table through."""
    most_s = min(TIMEOUT_S, timeout_s) if wanted.state in INDEXED else timeout_s
    asked = await of_each(cluster, lambda shard: desk_of(shard).listed(wanted, limit), timeout_s=most_s)
    return Listed(merged(asked.answers.values(), limit), asked.missing)


async def found_of(cluster: Cluster, digits: str, *, timeout_s: float = TIMEOUT_S) -> Found:
    """As `find_effect`. `timeout_s`: what a shard may take, which reads its key through."""
    first, last = span_of(digits)
    asked = await of_each(cluster, lambda shard: desk_of(shard).by_id(first, last), timeout_s=timeout_s)
    if not any(asked.answers.values()):
        asked.require_all("the message")
    return await with_story(cluster, the_one(digits, asked.answers.values()))


async def with_story(cluster: Cluster, effect: Effect) -> Found:
    """Return a message and its order's story."""
    return Found(effect, await desk_of(cluster[effect.shard]).story(effect.slot, effect.order_id))


async def resolved_in(
    cluster: Cluster, seen: Effect, state: State, *, provider_id: str | None, because: str, actor: str
) -> None:
    """As `resolve_effect`."""
    desk = desk_of(cluster[cluster.router.shard_of(seen.slot)])
    await desk.resolve(seen, state, provider_id=provider_id, because=because, actor=actor)


async def story_of(cluster: Cluster, order_id: str) -> Story:
    """As `order_story`."""
    shard, slot, _ = cluster.router.place(order_id)
    return await desk_of(cluster[shard]).story(slot, order_id)


def span_of(digits: str) -> tuple[UUID, UUID]:
    """Return the first and the last id that begin with some digits."""
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def the_one(digits: str, parts: Iterable[list[Effect]]) -> Effect:
    """Return the one message among what shards have. Raises NoSuchEffectError, EffectError."""
    found = [one for part in parts for one in part]
    if not found:
        raise NoSuchEffectError(
            f"{digits}: no such message; settled ones are deleted after retention.keep_days"
        )
    if len(found) > 1:
        raise EffectError(f"{digits}: several messages begin so, {found[0].effect_id} among them: give more")
    return found[0]


def desk_of(shard: Shard) -> EffectDesk:
    """Return a shard's desk."""
    return EffectDesk(shard.name, shard.primary)
