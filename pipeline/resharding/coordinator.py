"""Carries a change of shards out: copy, flip group by group, then finish or go back.

Every step looks at the databases and not at memory, so that another process can go on from wherever one was
killed. The states of a move are in `slot_move`, who owns what in `shard_slot`, and links are looked at.
"""

from collections.abc import Awaitable, Callable

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock, SystemClock
from pipeline.errors import LinkBrokenError, PostorderError, ReshardingError
from pipeline.resharding.change import Change
from pipeline.resharding.map_maker import MapMaker
from pipeline.resharding.move_work import MoveWork
from pipeline.resharding.progress import Report, nobody
from pipeline.resharding.tally import Outcome, Tally
from pipeline.resharding.throttle import Limits, Throttle
from pipeline.storage.cluster import Cluster
from pipeline.storage.move_table import MoveState

log = structlog.get_logger(__name__)

_RETRY = Backoff(base_s=0.2, ceiling_s=5.0)
_TRIES_MAX = 15  # in a row without a group flipped: about a minute, enough for a failover


class Coordinator:
    """Carries out a change that is in this process's hands. Mutable state: what was measured."""

    def __init__(
        self,
        cluster: Cluster,
        change: Change,
        limits: Limits | None = None,
        report: Report = nobody,
        clock: Clock | None = None,
    ) -> None:
        limits, clock = limits or Limits(), clock or SystemClock()
        self._clock = clock
        self._maps = MapMaker(cluster)
        self._tally = Tally(limits.group_slots)
        throttle = Throttle(limits, clock)
        self._works = [
            MoveWork(
                move,
                cluster=cluster,
                change=change,
                maps=self._maps,
                tally=self._tally,
                throttle=throttle,
                pause_s_max=limits.pause_s_max,
                report=report,
            )
            for move in change.moves
        ]

    @property
    def outcome(self) -> Outcome:
        """What was done so far."""
        return self._tally.outcome

    @property
    def is_aborting(self) -> bool:
        """Whether the change was on its way back when it was interrupted."""
        return any(work.move.state is MoveState.ABORTING for work in self._works)

    async def run(self) -> None:
        """Bring every move to where its target owns all its slots and the source follows, ready to go back.

        Also from half-way through an abort. Raises RowsDifferError, and what the shards raise for longer
        than a minute. What was flipped stays flipped; resume, or abort.
        """
        for work in self._works:
            if work.move.state is not MoveState.MOVED:
                await self._persist(work, work.carry)
        await self._maps.spread()

    async def finish(self) -> None:
        """Give up the way back: drop the links, and delete what the sources no longer own."""
        if any(work.move.state is not MoveState.MOVED for work in self._works):
            raise ReshardingError("not all slots have moved: resume or abort first")
        for work in self._works:
            await self._persist(work, work.finish)
        await self._maps.spread()

    async def abort(self) -> None:
        """Bring every slot back, and leave nothing behind.

        Raises ReshardingError, with nothing changed, where the way back is gone.
        """
        for work in self._works:
            await work.check_way_back()
        for work in reversed(self._works):
            await self._persist(work, work.abort)
        await self._maps.spread()

    async def _persist(self, work: MoveWork, step: Callable[[], Awaitable[None]]) -> None:
        """Try again what failed for the moment: a failover, a broken link, a shard that was busy."""
        tries, flipped = 0, self._tally.flipped
        while True:
            try:
                await work.settle()
                await step()
            except (PostorderError, TimeoutError) as error:
                tries = 1 if self._tally.flipped > flipped else tries + 1
                flipped = self._tally.flipped
                may_help = isinstance(error, TimeoutError | LinkBrokenError) or error.retryable
                if not may_help or tries >= _TRIES_MAX:
                    raise
                self._tally.shrink()
                log.warning("move.held_up", move=str(work.move), error=str(error) or "too slow", tries=tries)
                await self._clock.sleep(_RETRY.delay_s(tries))
            else:
                return
