"""The results of the reads benchmark, as a table and as JSON."""

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.reads_bench import Record


class ReadsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `make bench-reads` measured, in one run.

    A record for each mode, over two runs of equal length: one with a slow replica, one with a slow primary.
    `slow_replica` and `slow_primary` hold the two by themselves. `unchecked` is for comparison: the replica
    without any check, whose answers may be stale.
    """

    at: str
    machine: str
    command: str
    slow: str
    reads_per_s: float
    race: Record
    hedged: Record
    primary: Record
    replica: Record
    slow_replica: dict[str, Record]
    slow_primary: dict[str, Record]
    unchecked: Record


def print_reads(report: ReadsReport, console: Console) -> None:
    """Print the tables."""
    console.print(f"{report.slow}; {report.reads_per_s:g} reads/s in each run", highlight=False)
    both = {mode: getattr(report, mode) for mode in report.slow_replica}
    console.print(_table("That server is the replica half of the time, the primary the other half", both))
    console.print(_table("It is the replica", report.slow_replica))
    console.print(_table("It is the primary", report.slow_primary))
    console.print(_table("For comparison: a replica without any check", {"any": report.unchecked}))


def _table(title: str, records: dict[str, Record]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in ("reads", "p50 ms", "p99 ms", "p99.9 ms", "extra", "stale", "errors", "primary"):
        table.add_column(column, justify="right")
    for name, record in records.items():
        table.add_row(
            name,
            f"{record.reads:,}",
            f"{record.p50_ms:.1f}",
            f"{record.p99_ms:.1f}",
            f"{record.p999_ms:.1f}",
            f"{record.extra_load:.1%}",
            str(record.stale),
            str(record.errors),
            f"{record.by_primary / max(1, record.reads):.0%}",
        )
    return table
