"""What the ring costs: to build, to look a shard up in, to plan a change with. Pure CPU, no servers."""

import statistics
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.intake_report import machine, now_text
from pipeline.sharding.planner import after, plan_add, plan_remove
from pipeline.sharding.ring import Ring
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import SLOT_COUNT

SHARDS = (2, 8, 64, 1000, 10_000)
PLANNED_MAX = 64  # plans are measured up to here: the sizes that the balance is promised for
LOOKUPS = 20_000
RUNS = 5
_STEP = 0x9E37_79B9_7F4A_7C15  # odd, so that multiples of it are spread over the whole circle


class RingFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One size of ring. Medians of five runs; a plan's figures are of one shard more and one fewer."""

    shards: int
    points: int
    build_ms: float
    memory_mb: float
    assign_ms: float
    lookup_us: float
    max_to_mean: float
    add_ms: float | None = None
    add_moved_share: float | None = None
    add_ideal_share: float | None = None
    remove_ms: float | None = None
    remove_moved_share: float | None = None


class RingReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `make bench-ring` measured, in one run. `route_us`: from an order's id to its shard."""

    at: str
    machine: str
    command: str
    route_us: float
    rings: list[RingFigures]


def measure_rings() -> RingReport:
    """Measure every size."""
    return RingReport(
        at=now_text(),
        machine=machine(),
        command="python -m loadtest ring",
        route_us=_route_us(),
        rings=[_measured(shards) for shards in SHARDS],
    )


def _measured(shards: int) -> RingFigures:
    weights = {f"shard{number}": 1 for number in range(shards)}
    build_ms, ring = _timed_ms(lambda: Ring(weights))
    assign_ms, owners = _timed_ms(ring.assign)
    lookups_ms, _ = _timed_ms(lambda: [ring.owner_of(n * _STEP % 2**64) for n in range(LOOKUPS)])
    figures = RingFigures(
        shards=shards,
        points=len(ring),
        build_ms=round(build_ms, 1),
        memory_mb=round(_memory_mb(weights), 1),
        assign_ms=round(assign_ms, 1),
        lookup_us=round(lookups_ms * 1000 / LOOKUPS, 2),
        max_to_mean=round(max(Counter(owners).values()) * min(shards, SLOT_COUNT) / SLOT_COUNT, 3),
    )
    return _with_plans(figures, owners, weights) if shards <= PLANNED_MAX else figures


def _with_plans(figures: RingFigures, owners: tuple[str, ...], weights: dict[str, int]) -> RingFigures:
    more = {**weights, "new": 1}
    add_ms, added = _timed_ms(lambda: plan_add(owners, more, "new"))
    grown = after(owners, added)
    fewer = {name: weight for name, weight in more.items() if name != "shard0"}
    remove_ms, removed = _timed_ms(lambda: plan_remove(grown, fewer, "shard0"))
    return msgspec.structs.replace(
        figures,
        add_ms=round(add_ms, 1),
        add_moved_share=round(len(added) / SLOT_COUNT, 4),
        add_ideal_share=round(1 / len(more), 4),
        remove_ms=round(remove_ms, 1),
        remove_moved_share=round(len(removed) / SLOT_COUNT, 4),
    )


def _route_us() -> float:
    router = Router(ShardMap.first({f"shard{number}": 1 for number in range(64)}))
    ids = [f"order-{number}" for number in range(LOOKUPS)]
    took_ms, _ = _timed_ms(lambda: [router.place(order_id) for order_id in ids])
    return round(took_ms * 1000 / LOOKUPS, 2)


def _timed_ms(work: Callable[[], Any]) -> tuple[float, Any]:
    took, result = [], None
    for _ in range(RUNS):
        began = time.perf_counter()
        result = work()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), result


def _memory_mb(weights: dict[str, int]) -> float:
    tracemalloc.start()
    try:
        ring = Ring(weights)
        size, _ = tracemalloc.get_traced_memory()
        del ring
    finally:
        tracemalloc.stop()
    return size / 1e6


def print_rings(report: RingReport, console: Console) -> None:
    """Print the figures as a table."""
    built = Table("shards", "points", "build ms", "MB", "lookup µs", "first map ms", "max/mean")
    planned = Table("shards", "add ms", "moved", "1/(N+1)", "remove ms", "moved")
    for r in report.rings:
        _add(built, r.shards, r.points, r.build_ms, r.memory_mb, r.lookup_us, r.assign_ms, r.max_to_mean)
        if r.add_ms is not None:
            changes = (r.add_ms, r.add_moved_share, r.add_ideal_share, r.remove_ms, r.remove_moved_share)
            _add(planned, r.shards, *changes)
    console.print(built, planned)
    console.print(f"from an order's id to its shard: {report.route_us} µs")


def _add(table: Table, *cells: float | None) -> None:
    table.add_row(*("" if cell is None else f"{cell:,}" for cell in cells))
