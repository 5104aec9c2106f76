"""What `postorder effects`, `postorder timeline` and the API do: find messages, tell their story.

Each raises StorageUnavailableError, naming who is away.
"""

import asyncio
from uuid import UUID

import msgspec

from consumers.resharding import opened
from pipeline.errors import EffectError, NoSuchEffectError
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.effect_desk import Effect, EffectDesk, Story, Wanted
from pipeline.storage.outbox import State


class Found(msgspec.Struct, frozen=True):
    """A message and the story of its order."""

    effect: Effect
    story: Story


async def list_effects(settings: Settings, wanted: Wanted, limit: int) -> list[Effect]:
    """Return messages of all shards, those owed longest ago first."""
    async with opened(settings) as cluster:
        return await listed_of(cluster, wanted, limit)


async def find_effect(settings: Settings, digits: str) -> Found:
    """Return the message whose id begins with some digits. Raises EffectError when it is not just one."""
    async with opened(settings) as cluster:
        return await found_of(cluster, digits)


async def resolve_effect(
    settings: Settings, seen: Effect, state: State, *, provider_id: str | None, because: str, actor: str
) -> None:
    """Say what became of a message as it was seen. Raises EffectError, SlotsMovedError."""
    async with opened(settings) as cluster:
        await resolved_in(cluster, seen, state, provider_id=provider_id, because=because, actor=actor)


async def order_story(settings: Settings, order_id: str) -> Story:
    """Return what is known of an order's messages; all of it empty when nothing is."""
    async with opened(settings) as cluster:
        return await story_of(cluster, order_id)


# --- on shards that are open -----------------------------------------------------------------------


async def listed_of(cluster: Cluster, wanted: Wanted, limit: int) -> list[Effect]:
    """As `list_effects`."""
    found = await asyncio.gather(*(desk.listed(wanted, limit) for desk in _desks(cluster)))
    merged = [one for part in found for one in part]
    return sorted(merged, key=lambda one: (one.created_at, one.effect_id))[:limit]


async def found_of(cluster: Cluster, digits: str) -> Found:
    """As `find_effect`."""
    effect = await _find(cluster, digits)
    return Found(effect, await _desk(cluster, effect.shard).story(effect.slot, effect.order_id))


async def resolved_in(
    cluster: Cluster, seen: Effect, state: State, *, provider_id: str | None, because: str, actor: str
) -> None:
    """As `resolve_effect`."""
    desk = _desk(cluster, cluster.router.shard_of(seen.slot))
    await desk.resolve(seen, state, provider_id=provider_id, because=because, actor=actor)


async def story_of(cluster: Cluster, order_id: str) -> Story:
    """As `order_story`."""
    shard, slot, _ = cluster.router.place(order_id)
    return await _desk(cluster, shard).story(slot, order_id)


async def _find(cluster: Cluster, digits: str) -> Effect:
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    parts = await asyncio.gather(*(desk.by_id(first, last) for desk in _desks(cluster)))
    found = [one for part in parts for one in part]
    if not found:
        raise NoSuchEffectError(
            f"{digits}: no such message; settled ones are deleted after retention.keep_days"
        )
    if len(found) > 1:
        raise EffectError(f"{digits}: several messages begin so, {found[0].effect_id} among them: give more")
    return found[0]


def _desks(cluster: Cluster) -> list[EffectDesk]:
    return [EffectDesk(shard.name, shard.primary) for shard in cluster]


def _desk(cluster: Cluster, name: str) -> EffectDesk:
    return EffectDesk(name, cluster[name].primary)
