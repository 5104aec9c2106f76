"""What a commit costs by what it waits for: `python -m loadtest.commit_bench`.

One shard; the real intake transaction. Single events one after the other show the wait itself, batches of
500 in two lanes what is left of it when transactions overlap.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from consumers.event_files import as_delivery
from consumers.migration import migrate_all
from consumers.stack_commands import say
from consumers.stack_settings import write_stack_settings
from loadtest.cpu_account import CpuAccount
from loadtest.event_source import bodies
from loadtest.intake_report import machine, now_text
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.entries import EntryBuilder
from pipeline.settings import Settings, load_settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.node import Node
from pipeline.storage.rows import AnyRow, QuarantineRow, Trigger
from pipeline.storage.writer import IntakeWriter
from stack.launcher import StackConfig, down, reset, up
from stack.state import ShardConfig
from stack.status import StackStatus

WAITS = ("on", "remote_apply", "local")
SHARD = "shard0"
_ROUNDS = 3
_SINGLES = 400
_BATCHED = 20_000
_BATCH = 500
_DATA_DIR = Path("var/bench/commit-stack")
_REPORT = Path("var/bench/commit.json")


class CommitFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one value of synchronous_commit: medians of the rounds. CPU is in microseconds per event."""

    waits_for: str
    single_p50_ms: float
    single_p99_ms: float
    batched_per_s: float
    primary_us: float
    replica_us: float


class CommitReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything this measured, in one run."""

    at: str
    machine: str
    command: str
    figures: list[CommitFigures]


async def measure(data_dir: Path) -> CommitReport:
    """Measure each value in turn, several rounds, on a stack of one shard."""
    stack = _bring_up(data_dir, WAITS[0])
    settings = load_settings(write_stack_settings(stack, data_dir), {})
    await migrate_all(settings)
    rounds: dict[str, list[CommitFigures]] = {waits_for: [] for waits_for in WAITS}
    for _ in range(_ROUNDS):
        for waits_for in WAITS:
            _bring_up(data_dir, waits_for)
            rounds[waits_for].append(await _measure(stack, settings, waits_for))
    return CommitReport(
        at=now_text(),
        machine=machine(),
        command="python -m loadtest.commit_bench",
        figures=[_median(found) for found in rounds.values()],
    )


def _bring_up(data_dir: Path, waits_for: str) -> StackStatus:
    shard = ShardConfig(name=SHARD, synchronous_commit=waits_for)
    return up(StackConfig(data_dir=data_dir, shards=(shard,)), say)


async def _measure(stack: StackStatus, settings: Settings, waits_for: str) -> CommitFigures:
    cluster = Cluster(settings)
    try:
        await cluster[SHARD].primary.open()
        await cluster.load_map()
        await _until_in_force(cluster[SHARD].primary, waits_for)
        writer = cluster[SHARD].writer
        singles = []
        for row in _rows(settings, cluster, _SINGLES):
            started = time.perf_counter()
            await _write(writer, [row], 1)
            singles.append(1000 * (time.perf_counter() - started))
        rows = _rows(settings, cluster, _BATCHED)
        account = CpuAccount(
            {role: [stack.pids[f"{SHARD}-{role}"]] for role in ("primary", "replica")} | {"us": [os.getpid()]}
        )
        before, started = account.read(), time.perf_counter()
        await asyncio.gather(*(_write(writer, rows[number::2], _BATCH) for number in range(2)))
        wall_s, after = time.perf_counter() - started, account.read()
    finally:
        await cluster.close()
    cpu = {name: 1e6 * (after[name] - before[name]) / _BATCHED for name in before}
    return CommitFigures(
        waits_for=waits_for,
        single_p50_ms=statistics.median(singles),
        single_p99_ms=statistics.quantiles(singles, n=100)[98],
        batched_per_s=_BATCHED / wall_s,
        primary_us=cpu["primary"],
        replica_us=cpu["replica"],
    )


def _rows(settings: Settings, cluster: Cluster, count: int) -> list[AnyRow]:
    decoder = Decoder(message_bytes_max=settings.intake.message_bytes_max)
    entries = EntryBuilder(cluster.router, document_bytes_max=1, document_hosts=(), allow_http=False)
    made = bodies(uuid4().hex[:8], 0, count)
    return [entries.of_event(decoder.decode(as_delivery(body)))[1] for body in made]


async def _write(writer: IntakeWriter, rows: Sequence[AnyRow], batch: int) -> None:
    for first in range(0, len(rows), batch):
        await writer.write(rows[first : first + batch], Trigger.SIZE, _no_conflict, 1)


def _no_conflict(_place: int, _reason: str, _detail: str) -> QuarantineRow:
    raise AssertionError("all events are new")


async def _until_in_force(node: Node, waits_for: str) -> None:
    """Wait until new sessions see the value."""
    async with asyncio.timeout(10):
        while True:
            connection = await node.dedicated_connection()
            found = await connection.fetchval("SHOW synchronous_commit")
            connection.terminate()
            if found == waits_for:
                return


def _median(rounds: Sequence[CommitFigures]) -> CommitFigures:
    names = [name for name in CommitFigures.__struct_fields__ if name != "waits_for"]
    middle = {name: round(statistics.median(getattr(one, name) for one in rounds), 2) for name in names}
    return CommitFigures(waits_for=rounds[0].waits_for, **middle)


def print_commits(report: CommitReport, console: Console) -> None:
    """Print the figures as a table."""
    table = Table(
        "a commit waits for", "single p50, ms", "p99, ms", "in batches, /s", "primary, µs", "replica, µs"
    )
    for f in report.figures:
        values = (f.single_p50_ms, f.single_p99_ms, f.batched_per_s, f.primary_us, f.replica_us)
        table.add_row(f.waits_for, *map(str, values))
    console.print(table)


def main() -> None:
    """Measure on a stack of this run alone; write var/bench/commit.json."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(measure(_DATA_DIR))
    finally:
        down(_DATA_DIR, say)
        reset(_DATA_DIR, say)
    _REPORT.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    print_commits(report, Console())


if __name__ == "__main__":
    main()
