"""What `postorder shards` shows: the map, a plan, moves in progress, and how a change goes on."""

from collections.abc import Iterable
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from consumers.reachable import reachable
from pipeline.errors import StorageUnavailableError
from pipeline.resharding.change import merged_moves
from pipeline.resharding.planning import Estimate, as_ranges
from pipeline.resharding.progress import Phase, Progress
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.move_table import Move, MoveTable
from pipeline.storage.partial import TIMEOUT_S, of_each
from pipeline.storage.shard import Shard
from pipeline.storage.slot_ownership import SlotOwnership
from pipeline.storage.slot_rows import SlotRows
from pipeline.storage.watch_table import WatchTable

_SIZES_S: Final = 60.0  # whole tables are measured


class ShardView(msgspec.Struct, frozen=True, kw_only=True):
    """One shard. `slots` as ranges; `rows` of tables with slots; `replicas` that stream, the slowest's lag.

    `has_replica`: whether the settings name one.
    """

    name: str
    weight: int
    slots: int
    ranges: str
    epoch: int
    is_settled: bool
    rows: int
    size_bytes: int
    has_replica: bool
    replicas: int
    lag_bytes: int
    lag_s: float


class MoveView(msgspec.Struct, frozen=True, kw_only=True):
    """One move in progress. `moved`: slots that the target owns by now; null: it is not known yet or away."""

    move_id: str
    source: str
    target: str
    slots: int
    moved: int | None
    step: str
    state: str
    started_at: str


class Views(msgspec.Struct, frozen=True, kw_only=True):
    """All that `show` shows. `away`: shards that did not answer, and why; what only they know is missing."""

    epoch: int
    shards: list[ShardView]
    moves: list[MoveView]
    away: dict[str, str] = {}


async def shard_views(settings: Settings, *, sizes: bool = True) -> Views:
    """Read the shards that answer; without `sizes`, rows and bytes are 0."""
    async with reachable(settings) as cluster:
        return await views_of(cluster, sizes=sizes)


async def views_of(cluster: Cluster, *, sizes: bool) -> Views:
    """As `shard_views`, on shards that are open. Raises StorageUnavailableError when none answers."""

    async def look(shard: Shard) -> tuple[ShardView, list[Move]]:
        view = await _shard_view(cluster, shard, sizes=sizes)
        return view, await MoveTable(shard.primary).in_progress()

    found = await of_each(cluster, look, timeout_s=_SIZES_S if sizes else TIMEOUT_S)
    moves = merged_moves(moves for _, moves in found.answers.values())
    return Views(
        epoch=cluster.shard_map.epoch,
        shards=[view for view, _ in found.answers.values()],
        moves=await _move_views(cluster, moves),
        away=found.missing,
    )


async def moves_of(cluster: Cluster, *, timeout_s: float) -> list[MoveView]:
    """Return the moves in progress that shards which answer know of, and how far each is.

    Shards are asked up to twice, and have `timeout_s` in all. Raises StorageUnavailableError when none
    answers.
    """
    each_s = timeout_s / 2
    found = await of_each(cluster, lambda shard: MoveTable(shard.primary).in_progress(), timeout_s=each_s)
    return await _move_views(cluster, merged_moves(found.answers.values()), timeout_s=each_s)


async def _shard_view(cluster: Cluster, shard: Shard, *, sizes: bool) -> ShardView:
    stored = await shard.maps.read()
    slots = cluster.shard_map.slots_of(shard.name)
    found = (await SlotRows(shard.primary).sizes()).values() if sizes else ()
    standing = await WatchTable(shard.primary).standing()
    return ShardView(
        name=shard.name,
        weight=shard.settings.weight,
        slots=len(slots),
        ranges=as_ranges(slots),
        epoch=stored.shard_map.epoch if stored else 0,
        is_settled=bool(stored and stored.is_settled),
        rows=round(sum(size.rows for size in found)),
        size_bytes=round(sum(size.size_bytes for size in found)),
        has_replica=shard.replica is not None,
        replicas=standing.replicas,
        lag_bytes=standing.lag_bytes,
        lag_s=round(standing.lag_s, 3),
    )


async def _move_views(
    cluster: Cluster, moves: Iterable[Move], *, timeout_s: float = TIMEOUT_S
) -> list[MoveView]:
    """Return how far each is, by the targets that answer in time: each is asked once, for all its moves.

    A target that is being added is not known here until the first slots are its own.
    """
    known = list(moves)
    targets = {move.target for move in known} & cluster.shards.keys()

    async def held(shard: Shard) -> set[int]:
        slots = {slot for move in known if move.target == shard.name for slot in move.slots}
        return set(await SlotOwnership(shard.name, shard.primary).held(slots))

    try:
        asked = await of_each((cluster[name] for name in sorted(targets)), held, timeout_s=timeout_s)
        found = asked.answers
    except StorageUnavailableError:  # that they are away is said beside: the moves are known all the same
        found = {}
    return [_move_view(move, found.get(move.target)) for move in known]


def _move_view(move: Move, held: set[int] | None) -> MoveView:
    return MoveView(
        move_id=str(move.move_id),
        source=move.source,
        target=move.target,
        slots=len(move.slots),
        moved=None if held is None else len(held.intersection(move.slots)),
        step=move.step,
        state=move.state,
        started_at=move.started_at.isoformat(timespec="seconds"),
    )


def print_show(views: Views, console: Console) -> None:
    """Print the map, and the moves if there are any."""
    table = Table("shard", title=f"Shard map, epoch {views.epoch}", title_justify="left")
    for name in ("weight", "slots", "rows", "MB", "replica behind"):
        table.add_column(name, justify="right")
    table.add_column("remarks")
    for shard in views.shards:
        remarks = [] if shard.is_settled else ["slots come or go"]
        remarks += [] if shard.epoch == views.epoch else [f"its map is of epoch {shard.epoch}"]
        remarks += ["its replica does not stream"] if shard.has_replica and not shard.replicas else []
        table.add_row(
            shard.name,
            str(shard.weight),
            f"{shard.slots:,}",
            f"{shard.rows:,}",
            f"{shard.size_bytes / 1e6:,.1f}",
            f"{shard.lag_bytes:,} bytes" if shard.replicas else "",
            "; ".join(remarks),
        )
    console.print(table)
    if views.moves:
        print_moves(views.moves, console)


def print_moves(moves: list[MoveView], console: Console) -> None:
    """Print the moves in progress, and what can be done."""
    if not moves:
        console.print("no slots are moving")
        return
    table = Table("from", "to", "slots", "moved", "step", "state", "since")
    for move in moves:
        table.add_row(
            move.source,
            move.target,
            f"{move.slots:,}",
            "?" if move.moved is None else f"{move.moved:,}",
            move.step,
            move.state,
            move.started_at,
        )
    console.print(table)
    ready = all(move.state == "moved" for move in moves)
    console.print(f"next: postorder shards {'finish' if ready else 'resume'}, or abort")


def print_estimate(found: Estimate, console: Console) -> None:
    """Print what a change would move."""
    table = Table("from", "to", title=f"At epoch {found.epoch}", title_justify="left")
    for name in ("slots", "rows", "MB"):
        table.add_column(name, justify="right")
    for pair in found.pairs:
        table.add_row(
            pair.source,
            pair.target,
            f"{len(pair.slots):,}",
            f"{pair.rows:,}",
            f"{pair.size_bytes / 1e6:,.1f}",
        )
    console.print(table)
    for pair in found.pairs:
        console.print(f"{pair.source} to {pair.target}: slots {as_ranges(pair.slots)}", soft_wrap=True)
    console.print(f"{found.slots:,} slots, {found.share:.1%} of all; about {found.seconds:,.0f} s")


class ProgressLines:
    """Shows how a change goes on: bars on a terminal, elsewhere a line for each tenth of each phase.

    Mutable state: the bar of each move; the tenth shown last of each phase, and what the last line was about;
    the longest pause since the last line.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._tenths: dict[str, int] = {}
        self._last = ""
        self._stall_ms = 0.0
        self._bars: Bars | None = None
        if console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}"),
                console=console,
            )

    def __call__(self, progress: Progress) -> None:
        """Show a report."""
        move = progress.move
        what = f"{move.source} to {move.target}: {progress.phase}"
        if self._bars is None:
            self._print_line(what, progress)
            return
        self._bars.start()
        key = f"{move.move_id} {progress.phase}"
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(what, total=None, detail="")
        stall = f"pause {progress.stall_ms:g} ms" if progress.stall_ms else progress.detail
        self._bars.update(
            self._tasks[key], completed=progress.done, total=progress.total or None, detail=stall
        )
        if progress.phase is Phase.DONE:
            self._bars.stop()

    def _print_line(self, what: str, progress: Progress) -> None:
        self._stall_ms = max(self._stall_ms, progress.stall_ms)
        if not self._is_news(what, progress):
            return
        count = f" {progress.done:,}/{progress.total:,}" if progress.total else ""
        stall = f", pauses up to {self._stall_ms:g} ms" if self._stall_ms else ""
        self._console.print(f"{what}{count}{stall}", soft_wrap=True)
        self._last, self._stall_ms = what, 0.0

    def _is_news(self, what: str, progress: Progress) -> bool:
        """Tell whether a phase has come to its next tenth. Waiting comes and goes: said once in a tenth."""
        if progress.phase is Phase.WAITING:
            return what != self._last
        key = f"{progress.move.move_id} {progress.phase}"
        tenth = progress.done * 10 // progress.total if progress.total else 0
        if self._tenths.get(key) == tenth:
            return False
        self._tenths[key] = tenth
        return True
