"""The intake benchmark's results: as a table, as JSON, and as a page with plots."""

import io
import os
import platform
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import matplotlib as mpl
import msgspec
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from loadtest.intake_bench import Flow, OpenLoop

PARTS = ("broker", "primaries", "replicas", "consumers")
mpl.rcParams["svg.fonttype"] = "none"  # texts stay texts
mpl.rcParams["svg.hashsalt"] = "postorder"


class Target(msgspec.Struct, frozen=True):
    """A figure to reach, and what was measured."""

    what: str
    wanted: str
    measured: str
    met: bool


class IntakeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `make bench-intake` measured, in one run."""

    at: str
    machine: str
    command: str
    single: Flow
    batch50: Flow
    drain: Flow
    peer: Flow
    open_loop: OpenLoop
    ratio_to_peer: float

    @property
    def flows(self) -> dict[str, Flow]:
        """The scenarios by name."""
        return {"single": self.single, "batch50": self.batch50, "drain": self.drain, "peer": self.peer}

    def targets(self) -> list[Target]:
        """Compare with what was aimed at."""
        single, batch, drain, loop = self.single, self.batch50, self.drain, self.open_loop
        return [
            _at_least("single events/s", 18_000, single.events_per_s),
            _at_most("single CPU µs per event", 100, single.cpu_us.total),
            _at_least("batch of 50 events/s", 40_000, batch.events_per_s),
            _at_most("batch of 50 CPU µs per event", 50, batch.cpu_us.total),
            _at_least("drain events/s", 28_000, drain.events_per_s),
            _at_most("drain consumer RSS MB", 250, drain.consumer_rss_mb),
            _at_least("ratio to the peer", 20, self.ratio_to_peer),
            _at_most("open loop p50 ms", 15, loop.p50_ms),
            _at_most("open loop p99 ms", 60, loop.p99_ms),
        ]


def machine() -> str:
    """Return what this ran on."""
    return f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"


def now_text() -> str:
    """Return the time of the run."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def print_report(report: IntakeReport, console: Console) -> None:
    """Print the tables."""
    table = Table("", "events/s", *PARTS, "sum", title="µs of CPU per event", title_justify="left")
    for name, flow in report.flows.items():
        costs = [f"{getattr(flow.cpu_us, part):.1f}" for part in (*PARTS, "total")]
        table.add_row(name, f"{flow.events_per_s:,}", *costs)
    console.print(table)
    targets = Table("target", "wanted", "measured", "")
    for target in report.targets():
        targets.add_row(target.what, target.wanted, target.measured, "met" if target.met else "missed")
    console.print(targets)


def write_page(report: IntakeReport, path: Path) -> None:
    """Write one HTML page: the plots inline, the numbers below."""
    rows = "".join(
        f"<tr><td>{escape(target.what)}</td><td>{escape(target.wanted)}</td><td>{escape(target.measured)}</td>"
        f"<td>{'met' if target.met else 'missed'}</td></tr>"
        for target in report.targets()
    )
    numbers = escape(msgspec.json.format(msgspec.json.encode(report)).decode())
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Postorder: what intake costs</title>"
        "<style>body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}svg{max-width:100%}"
        "pre{background:#f6f6f6;padding:1rem;overflow:auto}</style>"
        f"<h1>What intake costs</h1><p>{escape(report.at)}, {escape(report.machine)}. "
        f"Made by <code>{escape(report.command)}</code>.</p>"
        f"<h2>CPU per event</h2>{_cost_plot(report)}<h2>Events per second</h2>{_rate_plot(report)}"
        f"<h2>Targets</h2><table><tr><th>target<th>wanted<th>measured<th></tr>{rows}</table>"
        f"<h2>All numbers</h2><pre>{numbers}</pre></html>",
        encoding="utf-8",
    )


def _cost_plot(report: IntakeReport) -> str:
    ours = {name: flow for name, flow in report.flows.items() if name != "peer"}
    figure = Figure(figsize=(9, 3))
    axes = figure.subplots()
    left = [0.0] * len(ours)
    for part in PARTS:
        widths = [getattr(flow.cpu_us, part) for flow in ours.values()]
        axes.barh(list(ours), widths, left=left, label=part)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlabel("µs of CPU per event")
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(PARTS), frameon=False)
    return _svg(figure)


def _rate_plot(report: IntakeReport) -> str:
    figure = Figure(figsize=(9, 3))
    axes = figure.subplots()
    bars = axes.barh(list(report.flows), [flow.events_per_s for flow in report.flows.values()])
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.margins(x=0.1)
    axes.set_xlabel("events per second, published to acknowledged")
    axes.invert_yaxis()
    return _svg(figure)


def _svg(figure: Figure) -> str:
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _at_least(what: str, wanted: float, measured: float) -> Target:
    return Target(what, f"≥ {wanted:,g}", f"{measured:,g}", measured >= wanted)


def _at_most(what: str, wanted: float, measured: float) -> Target:
    return Target(what, f"≤ {wanted:,g}", f"{measured:,g}", measured <= wanted)
