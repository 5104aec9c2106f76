"""Changes of shards as commands run them: open the shards, carry out, leave a state that can be resumed."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from pipeline.errors import PostorderError, ReshardingError
from pipeline.resharding.change import begin, checked_map, moves_in_progress, take_over
from pipeline.resharding.coordinator import Coordinator
from pipeline.resharding.planning import Estimate, estimate
from pipeline.resharding.progress import Report
from pipeline.resharding.tally import Outcome
from pipeline.resharding.throttle import Limits
from pipeline.settings import Settings
from pipeline.sharding.planner import SlotMove
from pipeline.storage.cluster import Cluster, FindShard
from pipeline.storage.move_table import Move, MoveState

Plan = Callable[[Cluster], Sequence[SlotMove]]


@asynccontextmanager
async def opened(settings: Settings, find_shard: FindShard = lambda _name: None) -> AsyncIterator[Cluster]:
    """All shards of the settings, their primaries open, by the map in force.

    `find_shard` looks up a shard that a later map names: for whoever goes on for long.
    """
    cluster = Cluster(settings, find_shard)
    try:
        for shard in cluster:
            await shard.primary.open()
        await cluster.load_map()
        yield cluster
    finally:
        await cluster.close()


async def planned(settings: Settings, plan: Plan) -> Estimate:
    """Say what a change would move; refuse what it would refuse."""
    async with opened(settings) as cluster:
        await checked_map(cluster)
        return await estimate(cluster, plan(cluster))


async def carry_out(
    settings: Settings, plan: Plan, limits: Limits, report: Report, *, finish: bool
) -> Outcome:
    """Begin a change and bring it to where all slots have moved, or to its end."""
    async with opened(settings) as cluster:
        await checked_map(cluster)
        moves = plan(cluster)
        sizes = (await estimate(cluster, moves)).sizes
        coordinator = Coordinator(cluster, await begin(cluster, moves, sizes, limits), limits, report)
        await coordinator.run()
    if finish:
        await finished(settings, limits, report)
    return coordinator.outcome


async def resumed(settings: Settings, limits: Limits, report: Report, *, forward: bool) -> Outcome:
    """Go on with what is in progress: forward, or back if it was being aborted."""
    async with opened(settings) as cluster:
        coordinator = Coordinator(cluster, await take_over(cluster), limits, report)
        if coordinator.is_aborting and not forward:
            await coordinator.abort()
        else:
            await coordinator.run()
    return coordinator.outcome


async def finished(settings: Settings, limits: Limits, report: Report) -> Outcome:
    """Give up the way back of what has moved, and clean up."""
    async with opened(settings) as cluster:
        if any(move.state is not MoveState.MOVED for move in await moves_in_progress(cluster)):
            raise ReshardingError("not all slots have moved: `postorder shards resume`, or abort")
        coordinator = Coordinator(cluster, await take_over(cluster), limits, report)
        await coordinator.finish()
    return coordinator.outcome


async def aborted(settings: Settings, limits: Limits, report: Report) -> Outcome:
    """Bring everything back that is in progress."""
    async with opened(settings) as cluster:
        coordinator = Coordinator(cluster, await take_over(cluster), limits, report)
        await coordinator.abort()
    return coordinator.outcome


async def open_moves(settings: Settings) -> tuple[Move, ...]:
    """Return the moves in progress."""
    async with opened(settings) as cluster:
        return await moves_in_progress(cluster)


async def is_in_progress(settings: Settings) -> bool:
    """Tell whether a change is there to be resumed; False also when the shards do not answer."""
    try:
        return bool(await open_moves(settings))
    except PostorderError:
        return False
