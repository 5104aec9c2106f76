"""Carries a change of shards out: copy, flip group by group, then finish or go back.

Every step looks at the databases and not at memory, so that another process can go on from wherever one was
killed. The states of a move are in `slot_move`, who owns what in `shard_slot`, and links are looked at.
"""

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock, SystemClock
from pipeline.errors import LinkBrokenError, PostorderError, ReshardingError
from pipeline.resharding.change import Change
from pipeline.resharding.group_flip import GroupFlip
from pipeline.resharding.map_maker import MapMaker
from pipeline.resharding.progress import Phase, Progress, Report, nobody
from pipeline.resharding.throttle import Limits, Throttle
from pipeline.storage.checksums import Differences
from pipeline.storage.cluster import Cluster
from pipeline.storage.conninfo import conninfo_of
from pipeline.storage.move_table import OVER, Move, MoveState, MoveTable
from pipeline.storage.replication_link import MOVING_TABLES, LinkState, ReplicationLink
from pipeline.storage.slot_ownership import SlotOwnership
from pipeline.storage.slot_rows import ReplicaLag, SlotRows

log = structlog.get_logger(__name__)

_COPY_S = 7 * 86_400.0
_QUICK_S, _SLOW_S = 0.15, 0.45  # of a pause: the next group is larger, or smaller
_GROUP_MAX = 128
_RETRY = Backoff(base_s=0.2, ceiling_s=5.0)
_TRIES_MAX = 15  # in a row without a group flipped: about a minute, enough for a failover


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a change came to: slots flipped by this process, their longest stall, and the diffs."""

    slots: int
    stall_ms_max: float
    stalls_ms: tuple[float, ...]
    differences: Differences


class Coordinator:
    """Carries out a change that is in this process's hands. Mutable state: the map, and what was measured."""

    def __init__(
        self,
        cluster: Cluster,
        change: Change,
        limits: Limits | None = None,
        report: Report = nobody,
        clock: Clock | None = None,
    ) -> None:
        self._cluster = cluster
        self._change = change
        self._limits = limits or Limits()
        self._report = report
        self._clock = clock or SystemClock()
        self._throttle = Throttle(self._limits, self._clock)
        self._maps = MapMaker(cluster)
        self._group = self._limits.group_slots
        self._flipped = 0
        self._stalls_ms: list[float] = []
        self._differences = Differences(slots=0, rows=0)

    @property
    def outcome(self) -> Outcome:
        """What was done so far."""
        return Outcome(
            slots=self._flipped,
            stall_ms_max=max(self._stalls_ms, default=0.0),
            stalls_ms=tuple(self._stalls_ms),
            differences=self._differences,
        )

    @property
    def is_aborting(self) -> bool:
        """Whether the change was on its way back when it was interrupted."""
        return any(move.state is MoveState.ABORTING for move in self._change.moves)

    # --- the three ways a change goes --------------------------------------------------------------------

    async def run(self) -> None:
        """Bring every move to where its target owns all its slots and the source follows, ready to go back.

        Also from half-way through an abort. Raises RowsDifferError, and what the shards raise for longer
        than a minute. What was flipped stays flipped; resume, or abort.
        """
        for move in self._change.moves:
            if move.state is not MoveState.MOVED:
                await self._persist(self._run, move)
        await self._maps.spread()

    async def finish(self) -> None:
        """Give up the way back: drop the links, and delete what the sources no longer own."""
        if any(move.state is not MoveState.MOVED for move in self._change.moves):
            raise ReshardingError("not all slots have moved: resume or abort first")
        for move in self._change.moves:
            await self._persist(self._finish, move)
        await self._maps.spread()

    async def abort(self) -> None:
        """Bring every slot back, and leave nothing behind.

        Raises ReshardingError, with nothing changed, where the way back is gone.
        """
        for move in self._change.moves:
            await self._check_way_back(move)
        for move in reversed(self._change.moves):
            await self._persist(self._abort, move)
        await self._maps.spread()

    async def _persist(self, work: Callable[[Move], Awaitable[None]], move: Move) -> None:
        """Try again what failed for the moment: a failover, a broken link, a shard that was busy."""
        tries, flipped = 0, self._flipped
        while True:
            try:
                await self._settle(move)
                await work(move)
            except (PostorderError, TimeoutError) as error:
                tries = 1 if self._flipped > flipped else tries + 1
                flipped = self._flipped
                may_help = isinstance(error, TimeoutError | LinkBrokenError) or error.retryable
                if not may_help or tries >= _TRIES_MAX:
                    raise
                self._group = max(1, self._group // 2)
                log.warning("move.held_up", move=str(move), error=str(error) or "too slow", tries=tries)
                await self._clock.sleep(_RETRY.delay_s(tries))
            else:
                return

    # --- one move -----------------------------------------------------------------------------------------

    async def _settle(self, move: Move) -> None:
        """Mend what a flip left half done: the newer owner stays, and nothing stays paused."""
        if self._is_over_somewhere(move):
            return
        source, target = self._owners(move)
        ours = await source.held_for_certain(move, move.slots)
        theirs = await target.held_for_certain(move, move.slots)
        await self._cluster.load_map()
        self._maps.use(self._cluster.shard_map)
        for loser, held, other in ((source, ours, theirs), (target, theirs, ours)):
            lost = [slot for slot in held if slot in other and other[slot].epoch > held[slot].epoch]
            if lost:
                await loser.give_up(move, lost, self._maps.current)
            paused = {slot for slot, found in held.items() if found.state == "leaving"} - set(lost)
            if paused:
                await loser.unpause(move, paused)

    def _owners(self, move: Move) -> tuple[SlotOwnership, SlotOwnership]:
        source, target = self._cluster[move.source], self._cluster[move.target]
        return SlotOwnership(source.name, source.primary), SlotOwnership(target.name, target.primary)

    def _is_over_somewhere(self, move: Move) -> bool:
        """Tell whether a former coordinator got as far as closing the move on one of its shards."""
        states = self._change.states
        return any(states[name][move.move_id] in OVER for name in self._change.shards_of(move))

    async def _run(self, move: Move) -> None:
        source, target = self._owners(move)
        await source.unsettle(move)
        await target.expect(move, self._maps.current.epoch)
        await self._copy(move)
        await self._prepare_way_back(move)
        await self._note(move, "flipping", MoveState.RUNNING)
        await self._flip_all(move, forward=True)
        await self._note(move, "moved", MoveState.MOVED)
        self._tell(move, Phase.DONE, len(move.slots), len(move.slots))

    async def _copy(self, move: Move) -> None:
        """Have a whole link from source to target, with all rows copied."""
        link = self._link(move, forward=True)
        there = await self._held_by_target(move)
        left = [slot for slot in move.slots if slot not in there]
        if not left:
            return
        if not (await link.state()).is_whole:
            await self._calm(move)
            await self._note(move, "copying", MoveState.RUNNING)
            await link.drop()
            await self._delete(move, move.target)
            await link.create(left, copy=True)
        await link.until_ready(lambda state: self._tell_copy(move, state), _COPY_S)

    async def _prepare_way_back(self, move: Move) -> None:
        """Have a link from target to source before the first flip, for what is written from then on."""
        link = self._link(move, forward=False)
        if (await link.state()).is_whole:
            return
        if await self._held_by_target(move):
            log.error("move.no_way_back", move=str(move))
            return
        await link.drop()
        await link.create(move.slots, copy=False)
        await link.until_ready(lambda _state: None, _COPY_S)

    async def _held_by_target(self, move: Move) -> set[int]:
        return set(await self._owners(move)[1].held(move.slots))

    async def _flip_all(self, move: Move, *, forward: bool) -> None:
        """Flip group by group what the giver still has."""
        source, target = self._cluster[move.source], self._cluster[move.target]
        giver, taker = (source, target) if forward else (target, source)
        flip = GroupFlip(
            move,
            giver=giver,
            taker=taker,
            link=self._link(move, forward=forward),
            marker=move.move_id if forward else move.back_marker,
            maps=self._maps,
            pause_s_max=self._limits.pause_s_max,
        )
        phase = Phase.FLIPPING if forward else Phase.BACK
        there = await SlotOwnership(giver.name, giver.primary).held(move.slots)
        left = [slot for slot in move.slots if slot in there]
        while left:
            await self._calm(move)
            group, left = left[: self._group], left[self._group :]
            done = await flip.flip(group)
            await self._maps.spread(but=(giver.name, taker.name))
            self._flipped += len(group)
            self._stalls_ms.append(round(done.stall_s * 1e3, 1))
            self._differences = self._differences.plus(done.differences)
            self._adapt(done.stall_s)
            total = len(move.slots)
            self._tell(move, phase, total - len(left), total, stall_ms=self._stalls_ms[-1])

    def _adapt(self, stall_s: float) -> None:
        if stall_s > _SLOW_S:
            self._group = max(1, self._group // 2)
        elif stall_s < _QUICK_S:
            self._group = min(_GROUP_MAX, self._group * 2)

    async def _finish(self, move: Move) -> None:
        if not self._is_over_somewhere(move):
            await self._note(move, "finishing", MoveState.MOVED)
            await self._link(move, forward=False).drop()
            await self._link(move, forward=True).drop()
            await self._delete(move, move.source)
        await self._close(move, MoveState.FINISHED)

    async def _abort(self, move: Move) -> None:
        if not self._is_over_somewhere(move):
            await self._check_way_back(move)
            await self._note(move, "aborting", MoveState.ABORTING)
            if await self._held_by_target(move):
                await self._flip_all(move, forward=False)
            await self._link(move, forward=False).drop()
            await self._link(move, forward=True).drop()
            await self._delete(move, move.target)
        await self._close(move, MoveState.ABORTED)

    async def _check_way_back(self, move: Move) -> None:
        if self._is_over_somewhere(move) or not await self._held_by_target(move):
            return
        if not (await self._link(move, forward=False).state()).is_whole:
            raise ReshardingError(
                f"{move}: the way back is gone, and {move.target} has rows that {move.source} does not: "
                "go on with `postorder shards resume --forward`, then move the slots back"
            )

    # --- parts of it --------------------------------------------------------------------------------------

    def _link(self, move: Move, *, forward: bool) -> ReplicationLink:
        source, target = self._cluster[move.source], self._cluster[move.target]
        publisher, subscriber = (source, target) if forward else (target, source)
        return ReplicationLink(
            move.link_name if forward else move.back_link_name,
            move,
            move.move_id if forward else move.back_marker,
            publisher=publisher.primary,
            subscriber=subscriber.primary,
            conninfo=conninfo_of(publisher.settings),
        )

    async def _note(self, move: Move, step: str, state: MoveState) -> None:
        for name in self._change.shards_of(move):
            await MoveTable(self._cluster[name].primary).note(move, step, state)

    async def _close(self, move: Move, state: MoveState) -> None:
        """Record the end on each shard; an earlier process may have come to some of them."""
        for name in self._change.shards_of(move):
            if self._change.states[name][move.move_id] not in OVER:
                shard = self._cluster[name]
                await SlotOwnership(name, shard.primary).close(move, state)
                self._change.states[name][move.move_id] = state
        self._tell(move, Phase.DONE, len(move.slots), len(move.slots))

    async def _delete(self, move: Move, shard: str) -> None:
        """Delete the move's rows on a shard that does not own their slots, some at a time."""
        rows = SlotRows(self._cluster[shard].primary)
        deleted = 0
        for table in MOVING_TABLES:
            while some := await rows.delete_some(move, table):
                deleted += some
                self._tell(move, Phase.CLEANING, detail=f"{deleted:,} rows on {shard}")
                await self._calm(move)

    async def _calm(self, move: Move) -> None:
        nodes = [self._cluster[name].primary for name in (move.source, move.target)]
        await self._throttle.until_calm(nodes, lambda lag: self._tell_waiting(move, lag))

    def _tell_waiting(self, move: Move, lag: ReplicaLag) -> None:
        self._tell(move, Phase.WAITING, detail=f"{lag.size_bytes:,} bytes, {lag.seconds:.1f} s behind")

    def _tell_copy(self, move: Move, state: LinkState) -> None:
        total = len(MOVING_TABLES) + 1
        detail = f"{state.bytes_copied:,} bytes of tables under way, {state.lag_bytes:,} behind"
        self._tell(move, Phase.COPYING, total - state.copying, total, detail=detail)

    def _tell(self, move: Move, phase: Phase, done: int = 0, total: int = 0, **more: object) -> None:
        self._report(Progress(move=move, phase=phase, done=done, total=total, **more))  # type: ignore[arg-type]
