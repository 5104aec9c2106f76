"""What the intake transaction costs alone, by the size of its batches: no broker, no decoding."""

import asyncio
import os
import time
from collections.abc import Sequence
from uuid import uuid4

import msgspec
from rich.console import Console
from rich.table import Table

from consumers.event_files import as_delivery
from consumers.migration import migrate_all
from loadtest.cpu_account import CpuAccount
from loadtest.event_source import bodies
from loadtest.intake_report import machine, now_text
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.entries import EntryBuilder
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.rows import AnyRow, QuarantineRow, Trigger
from pipeline.storage.shard import Shard
from pipeline.storage.writer import IntakeWriter
from stack.status import StackStatus

SIZES = (1, 5, 20, 50, 100, 200, 500)
RUNS = 3
_BATCHES_MAX = 400
_EVENTS_MAX = 20_000
_LANES = 2  # transactions at once on one shard, as in production
_ALWAYS, _NEVER = 10**9, 0


class WriterFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds per event of one size and way. Medians of three runs."""

    batch: int
    way: str
    client_us: float
    primaries_us: float
    replicas_us: float
    wall_us: float


class WriterReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `make bench-writer` measured, in one run."""

    at: str
    machine: str
    command: str
    figures: list[WriterFigures]


async def measure_writer(stack: StackStatus, settings: Settings) -> WriterReport:
    """Write batches of every size in both ways, on an empty cluster."""
    await migrate_all(settings)
    cluster = Cluster(settings)
    try:
        for shard in cluster:
            await shard.primary.open()
        await cluster.load_map()
        figures = []
        for batch in SIZES:
            for way, few_max in (("one statement", _ALWAYS), ("COPY", _NEVER)):
                runs = [await _run(stack, settings, cluster, batch, few_max) for _ in range(RUNS)]
                figures.append(_median(batch, way, runs))
    finally:
        await cluster.close()
    return WriterReport(
        at=now_text(), machine=machine(), command="python -m loadtest writer", figures=figures
    )


async def _run(
    stack: StackStatus, settings: Settings, cluster: Cluster, batch: int, few_max: int
) -> tuple[float, float, float, float]:
    """Return µs per event: client, primaries, replicas, wall clock."""
    count = min(batch * _BATCHES_MAX, _EVENTS_MAX)
    rows = _rows(settings, cluster, count)
    account = CpuAccount(
        {
            "client": [os.getpid()],
            "primaries": [pid for name, pid in stack.pids.items() if name.endswith("-primary")],
            "replicas": [pid for name, pid in stack.pids.items() if name.endswith("-replica")],
        }
    )
    writers = {shard.name: _writer(shard, settings, few_max) for shard in cluster}
    before, started = account.read(), time.perf_counter()
    await asyncio.gather(
        *(_lane(writers[name], rows[name][lane::_LANES], batch) for name in rows for lane in range(_LANES))
    )
    wall, after = time.perf_counter() - started, account.read()
    client, primaries, replicas = (1e6 * (after[name] - before[name]) / count for name in before)
    return client, primaries, replicas, 1e6 * wall / count


def _rows(settings: Settings, cluster: Cluster, count: int) -> dict[str, list[AnyRow]]:
    decoder = Decoder(message_bytes_max=settings.intake.message_bytes_max)
    entries = EntryBuilder(cluster.router, document_bytes_max=1, document_hosts=(), allow_http=False)
    rows: dict[str, list[AnyRow]] = {name: [] for name in cluster.shards}
    for body in bodies(uuid4().hex[:8], 0, count):
        shard, row = entries.of_event(decoder.decode(as_delivery(body)))
        rows[shard].append(row)
    return rows


def _writer(shard: Shard, settings: Settings, few_max: int) -> IntakeWriter:
    return IntakeWriter(
        shard.primary,
        grace_window_s=settings.notifications.grace_window_s,
        message_lifetime_s=settings.notifications.message_lifetime_s,
        few_max=few_max,
    )


async def _lane(writer: IntakeWriter, rows: Sequence[AnyRow], batch: int) -> None:
    for first in range(0, len(rows), batch):
        await writer.write(rows[first : first + batch], Trigger.SIZE, _no_conflict, 1)


def _no_conflict(_place: int, _reason: str, _detail: str) -> QuarantineRow:
    raise AssertionError("all events are new")


def _median(batch: int, way: str, runs: Sequence[tuple[float, ...]]) -> WriterFigures:
    middle = [round(sorted(figures)[len(runs) // 2], 1) for figures in zip(*runs, strict=True)]
    return WriterFigures(
        batch=batch,
        way=way,
        client_us=middle[0],
        primaries_us=middle[1],
        replicas_us=middle[2],
        wall_us=middle[3],
    )


def print_writer(report: WriterReport, console: Console) -> None:
    """Print the figures as a table."""
    table = Table("batch", "way", "client", "primaries", "replicas", "wall clock", title="µs per event")
    for f in report.figures:
        table.add_row(str(f.batch), f.way, *map(str, (f.client_us, f.primaries_us, f.replicas_us, f.wall_us)))
    console.print(table)
