"""The plots of a report, as SVG that takes its text colour from the page, for light and dark."""

import io
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.scenarios.figures import PhaseFigures
from loadtest.scenarios.latencies import Latency, curve
from loadtest.scenarios.report import Report
from loadtest.scenarios.samples import Sample

mpl.rcParams["svg.fonttype"] = "none"  # texts stay texts
mpl.rcParams["svg.hashsalt"] = "postorder"

_INK = "#010203"  # stands for the page's own colour; no line has it
_SIZE = (8.0, 3.2)
_WAITS_SHOWN_S = 8
# Okabe and Ito's colours, which the colour-blind can tell apart; those that read on light and on dark.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C", "#A6761D")
_PARTS = {
    "broker": ("rabbitmq",),
    "primaries": ("-primary",),
    "replicas": ("-replica",),
    "intake": ("intake",),
    "sender": ("sender",),
    "public": ("public",),
    "stand-ins": ("twilio_emulator", "smtp_sink"),
    "load test itself": ("generator", "observer"),
}
WAYS = {
    "confirmed": "confirmed by the broker",
    "committed": "committed on both",
    "replica": "visible on replica",
    "sms_accepted": "SMS accepted",
    "mail_accepted": "mail accepted",
    "sms_delivered": "callback in ledger",
}
"""What latency is measured to, by name for people."""


def label_of(way: str) -> str:
    """Return the name of a way for people."""
    return WAYS.get(way, way.replace("sms ", "SMS: ").replace("mail ", "mail: ").replace("_", " "))


def rates(report: Report) -> str:
    """Plot what was due, committed and accepted, a second."""
    counts: dict[str, Callable[[Sample], int]] = {
        "events due": lambda sample: sample.due,
        "events committed": lambda sample: sample.committed,
        "SMS accepted": lambda sample: sample.sms,
        "mails accepted": lambda sample: sample.mails,
    }

    def draw(axes: Axes) -> None:
        for place, (name, count) in enumerate(counts.items()):
            at, values = _gains(report.samples, count)
            if any(values):
                style = ":" if name == "events due" else "-"
                axes.plot(at, values, style, label=name, color=COLOURS[place], linewidth=1.6)

    return _plot(report, draw, "per second")


def latency_over_time(report: Report) -> str:
    """Plot p50 and p99 of each way by the planned moment."""

    def draw(axes: Axes) -> None:
        for place, way in enumerate(report.over_time.p99_ms):
            colour = COLOURS[place % len(COLOURS)]
            for values, style, name in (
                (report.over_time.p50_ms[way], ":", None),
                (report.over_time.p99_ms[way], "-", label_of(way)),
            ):
                at = [report.over_time.step_s * (number + 0.5) for number in range(len(values))]
                known = [(x, y) for x, y in zip(at, values, strict=True) if y]
                if known:
                    axes.plot(*zip(*known, strict=True), style, color=colour, linewidth=1.4, label=name)
        axes.set_yscale("log")

    return _plot(report, draw, "ms (line p99, dots p50)")


def percentiles(phase: PhaseFigures) -> str:
    """Plot the distributions of a phase: the further right, the rarer."""
    ways = {name: one for name, one in phase.latencies.items() if name in WAYS and one.count}
    figure = Figure(figsize=_SIZE)
    axes = figure.subplots()
    for place, (name, latency) in enumerate(ways.items()):
        _curve(axes, latency, label_of(name), COLOURS[place % len(COLOURS)])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([1, 10, 100, 1000, 10_000], ["0", "90 %", "99 %", "99.9 %", "99.99 %"])
    axes.set_xlim(left=1)
    axes.set_xlabel("percentile")
    axes.set_ylabel("ms")
    return as_svg(figure, axes)


def _curve(axes: Axes, latency: Latency, name: str, colour: str) -> None:
    points = [(1 / (1 - share / 100), value) for share, value in curve(latency) if value > 0]
    if points:
        axes.plot(*zip(*points, strict=True), label=name, color=colour, linewidth=1.6)


def cpu(report: Report) -> str:
    """Plot the cores that each part used, stacked."""
    at: list[float] = []
    stacks: dict[str, list[float]] = {name: [] for name in _PARTS}
    for first, last in pairwise(report.samples):
        seconds = max(1e-9, last.at_s - first.at_s)
        at.append(last.at_s)
        for name, endings in _PARTS.items():
            used = sum(
                value - first.usage.cpu_s.get(part, 0.0)
                for part, value in last.usage.cpu_s.items()
                if part.endswith(endings)
            )
            stacks[name].append(max(0.0, used) / seconds)
    shown = {name: values for name, values in stacks.items() if any(value > 0.005 for value in values)}  # noqa: PLR2004

    def draw(axes: Axes) -> None:
        if shown:
            axes.stackplot(at, *shown.values(), labels=list(shown), colors=COLOURS, alpha=0.85)

    return _plot(report, draw, "cores used")


def backlog(report: Report) -> str:
    """Plot what waited: with the broker, in the pipeline, and by how many calls at the providers."""

    def draw(axes: Axes) -> None:
        at = [sample.at_s for sample in report.samples]
        lines: dict[str, list[float]] = {
            "queues": [sum(_work(sample).values()) for sample in report.samples],
            "retry ladder": [
                sum(n for name, n in sample.queues.items() if name.startswith("retry."))
                for sample in report.samples
            ],
            "in lanes": [sample.gauges.get("buffered_events{}", 0.0) for sample in report.samples],
            "calls to providers": [_sum(sample, "sends_in_flight") for sample in report.samples],
        }
        for place, (name, values) in enumerate(lines.items()):
            if any(values):
                axes.plot(at, values, label=name, color=COLOURS[place], linewidth=1.6)

    return _plot(report, draw, "waiting")


_ALLOCATOR = {
    "workers wanted": "allocator_workers{wanted}",
    "workers running": "allocator_workers{running}",
    "CPU of a worker, cores": "allocator_worker_cpu_cores{}",
    "prefetch, thousands": "allocator_prefetch{}",
}


def allocator(report: Report) -> str:
    """Plot what an allocator did, and the work that waited; empty when there was none."""
    seen = [sample for sample in report.samples if _ALLOCATOR["workers wanted"] in sample.gauges]
    if not seen:
        return ""

    def draw(axes: Axes) -> None:
        at = [sample.at_s for sample in seen]
        for place, (name, gauge) in enumerate(_ALLOCATOR.items()):
            scale = 1000 if name.startswith("prefetch") else 1
            values = [sample.gauges.get(gauge, 0.0) / scale for sample in seen]
            style = ":" if name == "workers running" else "-"
            axes.step(at, values, style, where="post", label=name, color=COLOURS[place], linewidth=1.6)
        waits = [min(_sum(sample, "allocator_work_seconds"), _WAITS_SHOWN_S) for sample in seen]
        axes.plot(
            at, waits, label=f"work that waits, s (up to {_WAITS_SHOWN_S})", color=COLOURS[4], linewidth=1
        )

    return _plot(report, draw, "")


def _work(sample: Sample) -> Mapping[str, int]:
    return {name: n for name, n in sample.queues.items() if not name.startswith("retry.")}


def _sum(sample: Sample, gauge: str) -> float:
    return sum(value for name, value in sample.gauges.items() if name.startswith(gauge))


def _gains(samples: Sequence[Sample], count: Callable[[Sample], int]) -> tuple[list[float], list[float]]:
    at, values = [], []
    for first, last in pairwise(samples):
        at.append(last.at_s)
        values.append(max(0, count(last) - count(first)) / max(1e-9, last.at_s - first.at_s))
    return at, values


def _plot(report: Report, draw: Callable[[Axes], None], what: str) -> str:
    figure = Figure(figsize=_SIZE)
    axes = figure.subplots()
    draw(axes)
    for phase in report.phases:
        if phase.faults:
            axes.axvspan(phase.begin_s, phase.end_s, color="#D55E00", alpha=0.12, linewidth=0)
        axes.axvline(phase.begin_s, color=COLOURS[6], linewidth=0.6, alpha=0.6)
    axes.set_xlabel("seconds since the start")
    axes.set_ylabel(what)
    axes.set_xlim(left=0)
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    return as_svg(figure, axes)


def as_svg(figure: Figure, axes: Axes) -> str:
    """Return a plot with its axes, grid and legend in the page's own colour."""
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_color(_INK)
        spine.set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=_INK, which="both")
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    axes.grid(visible=True, color=COLOURS[6], alpha=0.25, linewidth=0.6)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=3,
            frameon=False,
            labelcolor=_INK,
            fontsize=9,
        )
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
