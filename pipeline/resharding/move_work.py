"""The work on one move: settle what is half done, carry it out, finish it, or bring it back."""

import structlog

from pipeline.errors import ReshardingError
from pipeline.resharding.change import Change
from pipeline.resharding.group_flip import GroupFlip
from pipeline.resharding.map_maker import MapMaker
from pipeline.resharding.progress import Phase, Progress, Report
from pipeline.resharding.tally import Tally
from pipeline.resharding.throttle import Throttle
from pipeline.storage.cluster import Cluster
from pipeline.storage.conninfo import conninfo_of
from pipeline.storage.move_table import OVER, Move, MoveState, MoveTable
from pipeline.storage.replication_link import MOVING_TABLES, LinkState, ReplicationLink
from pipeline.storage.slot_ownership import SlotOwnership
from pipeline.storage.slot_rows import DELETE_MAX, ReplicaLag, SlotRows

log = structlog.get_logger(__name__)

_COPY_S = 7 * 86_400.0
_DELETE_SLOTS = 16  # at a time: dead rows that are passed over again and again must stay few


class MoveWork:
    """One move of a change. Each method can be run again after it failed, or by another process."""

    def __init__(
        self,
        move: Move,
        *,
        cluster: Cluster,
        change: Change,
        maps: MapMaker,
        tally: Tally,
        throttle: Throttle,
        pause_s_max: float,
        report: Report,
    ) -> None:
        self.move = move
        self._cluster = cluster
        self._change = change
        self._maps = maps
        self._tally = tally
        self._throttle = throttle
        self._pause_s_max = pause_s_max
        self._report = report
        self._source, self._target = cluster[move.source], cluster[move.target]
        self._at_source = SlotOwnership(move.source, self._source.primary)
        self._at_target = SlotOwnership(move.target, self._target.primary)

    async def settle(self) -> None:
        """Mend what a flip left half done: the newer owner stays, and nothing stays paused."""
        if self._is_over_somewhere():
            return
        move = self.move
        ours = await self._at_source.held_for_certain(move, move.slots)
        theirs = await self._at_target.held_for_certain(move, move.slots)
        await self._cluster.load_map()
        self._maps.use(self._cluster.shard_map)
        for loser, held, other in ((self._at_source, ours, theirs), (self._at_target, theirs, ours)):
            lost = [slot for slot in held if slot in other and other[slot].epoch > held[slot].epoch]
            if lost:
                await loser.give_up(move, lost, self._maps.current)
            paused = {slot for slot, found in held.items() if found.state == "leaving"} - set(lost)
            if paused:
                await loser.unpause(move, paused)

    def _is_over_somewhere(self) -> bool:
        """Tell whether a former coordinator got as far as closing the move on one of its shards."""
        states = self._change.states
        return any(states[name][self.move.move_id] in OVER for name in self._change.shards_of(self.move))

    # --- forward ------------------------------------------------------------------------------------------

    async def carry(self) -> None:
        """Copy, prepare the way back, and flip all slots."""
        await self._at_source.unsettle(self.move)
        await self._at_target.expect(self.move, self._maps.current.epoch)
        await self._copy()
        await self._prepare_way_back()
        self._tell(Phase.WAY_BACK)
        await self._note("flipping", MoveState.RUNNING)
        await self._flip_all(forward=True)
        await self._note("moved", MoveState.MOVED)
        self._tell_done()

    async def _copy(self) -> None:
        """Have a whole link from source to target, with all rows copied."""
        link = self._link(forward=True)
        there = await self._at_target.held(self.move.slots)
        left = [slot for slot in self.move.slots if slot not in there]
        if not left:
            return
        if not (await link.state()).is_whole:
            await self._calm()
            await self._note("copying", MoveState.RUNNING)
            await link.drop()
            await self._keep_deletions_here(sorted(there))
            await self._delete(self.move.target)
            await link.create(left, copy=True)
        await link.until_ready(self._tell_copy, _COPY_S)

    async def _keep_deletions_here(self, there: list[int]) -> None:
        """See to it that what a broken copy left can be deleted on the target, and not on the source too."""
        back = self._link(forward=False)
        if not there:
            await back.drop()
        elif (await back.state()).published:
            await back.publish(there)

    async def _prepare_way_back(self) -> None:
        """Have a link from target to source before the first flip, for what is written from then on."""
        link = self._link(forward=False)
        if (await link.state()).is_whole:
            await link.publish(self.move.slots)  # a copy that was made anew had left some out
            return
        if await self._at_target.held(self.move.slots):
            log.error("move.no_way_back", move=str(self.move))
            return
        await link.drop()
        await link.create(self.move.slots, copy=False)
        await link.until_ready(lambda _state: None, _COPY_S)

    async def _flip_all(self, *, forward: bool) -> None:
        """Flip group by group what the giver still has."""
        giver, taker = (self._source, self._target) if forward else (self._target, self._source)
        flip = GroupFlip(
            self.move,
            giver=giver,
            taker=taker,
            link=self._link(forward=forward),
            marker=self.move.move_id if forward else self.move.back_marker,
            maps=self._maps,
            pause_s_max=self._pause_s_max,
        )
        held = await SlotOwnership(giver.name, giver.primary).held(self.move.slots)
        left = [slot for slot in self.move.slots if slot in held]
        total = len(self.move.slots)
        while left:
            await self._calm()
            size = self._tally.group_slots
            group, left = left[:size], left[size:]
            self._tally.add(len(group), await flip.flip(group))
            await self._maps.spread(but=(giver.name, taker.name))
            phase = Phase.FLIPPING if forward else Phase.BACK
            self._tell(phase, total - len(left), total, stall_ms=self._tally.last_stall_ms)

    # --- to an end ----------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Drop the links, and delete what the source no longer owns."""
        if not self._is_over_somewhere():
            await self._note("finishing", MoveState.MOVED)
            await self._link(forward=False).drop()
            await self._link(forward=True).drop()
            await self._delete(self.move.source)
        await self._close(MoveState.FINISHED)

    async def abort(self) -> None:
        """Bring all slots back, drop the links, and delete what the target got."""
        if not self._is_over_somewhere():
            await self.check_way_back()
            await self._note("aborting", MoveState.ABORTING)
            await self._flip_all(forward=False)
            await self._link(forward=False).drop()
            await self._link(forward=True).drop()
            await self._delete(self.move.target)
        await self._close(MoveState.ABORTED)

    async def check_way_back(self) -> None:
        """Raise ReshardingError if slots have moved whose old shard does not follow them any more."""
        if self._is_over_somewhere() or not await self._at_target.held(self.move.slots):
            return
        if not (await self._link(forward=False).state()).is_whole:
            raise ReshardingError(
                f"{self.move}: the way back is gone, and {self.move.target} has rows that "
                f"{self.move.source} does not: go on with `postorder shards resume --forward`, then move the "
                "slots back"
            )

    async def _delete(self, shard: str) -> None:
        """Delete the move's rows on a shard that does not own their slots, some at a time."""
        rows = SlotRows(self._cluster[shard].primary)
        slots, deleted = self.move.slots, 0
        for start in range(0, len(slots), _DELETE_SLOTS):
            group = slots[start : start + _DELETE_SLOTS]
            while some := await rows.delete_some(self.move, group):
                deleted += some
                detail = f"{deleted:,} rows on {shard}"
                self._tell(Phase.CLEANING, start, len(slots), detail=detail)
                await self._calm()
                if some < DELETE_MAX:
                    break

    async def _close(self, state: MoveState) -> None:
        """Record the end on each shard; an earlier process may have come to some of them."""
        for name in self._change.shards_of(self.move):
            if self._change.states[name][self.move.move_id] not in OVER:
                await SlotOwnership(name, self._cluster[name].primary).close(self.move, state)
                self._change.states[name][self.move.move_id] = state
        self._tell_done()

    # --- parts --------------------------------------------------------------------------------------------

    def _link(self, *, forward: bool) -> ReplicationLink:
        move = self.move
        publisher, subscriber = (self._source, self._target) if forward else (self._target, self._source)
        return ReplicationLink(
            move.link_name if forward else move.back_link_name,
            move,
            move.move_id if forward else move.back_marker,
            publisher=publisher.primary,
            subscriber=subscriber.primary,
            conninfo=conninfo_of(publisher.settings),
        )

    async def _note(self, step: str, state: MoveState) -> None:
        for name in self._change.shards_of(self.move):
            await MoveTable(self._cluster[name].primary).note(self.move, step, state)

    async def _calm(self) -> None:
        await self._throttle.until_calm([self._source.primary, self._target.primary], self._tell_waiting)

    def _tell_waiting(self, lag: ReplicaLag) -> None:
        self._tell(Phase.WAITING, detail=f"{lag.size_bytes:,} bytes, {lag.seconds:.1f} s behind")

    def _tell_copy(self, state: LinkState) -> None:
        total = len(MOVING_TABLES) + 1
        detail = f"{state.bytes_copied:,} bytes of tables under way, {state.lag_bytes:,} behind"
        self._tell(Phase.COPYING, total - state.copying, total, detail=detail)

    def _tell_done(self) -> None:
        self._tell(Phase.DONE, len(self.move.slots), len(self.move.slots))

    def _tell(
        self, phase: Phase, done: int = 0, total: int = 0, *, stall_ms: float = 0.0, detail: str = ""
    ) -> None:
        self._report(
            Progress(move=self.move, phase=phase, done=done, total=total, stall_ms=stall_ms, detail=detail)
        )
