"""The plots of a study, as SVG that takes its text colour from the page, for light and dark."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from loadtest.planning.simulation.figures import WINDOW_S, OverTime
from loadtest.planning.simulation.scenarios import BEGINS_S
from loadtest.planning.simulation.study import BatchCurve
from loadtest.scenarios.plots import COLOURS, as_svg

_SIZE = (8.0, 3.0)
_LOG_ABOVE_MS = 1000
_BLUE, _ORANGE, _GREEN, _GREY = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[6]


def latency(line: OverTime) -> str:
    """Plot p99 by when events came."""
    figure = Figure(figsize=_SIZE)
    axes = figure.subplots()
    lines = [("the others", line.others, _BLUE), ("affected", line.affected, _ORANGE)]
    drawn = [(name, values, colour) for name, values, colour in lines if any(values)]
    for name, values, colour in drawn:
        points = [(number * WINDOW_S, value) for number, value in enumerate(values) if value is not None]
        label = name if len(drawn) > 1 else "all events"
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.6, label=label)
    axes.axvline(BEGINS_S, color=_GREY, linewidth=0.8, linestyle=":")
    if max(value or 0.0 for _, values, _ in drawn for value in values) > _LOG_ABOVE_MS:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("when events came, seconds")
    axes.set_ylabel("p99, ms")
    return as_svg(figure, axes)


def by_shard(values: Sequence[float], what: str, bound: float | None = None) -> str:
    """Plot a figure of each shard, from the least to the most."""
    figure = Figure(figsize=_SIZE)
    axes = figure.subplots()
    axes.fill_between(range(len(values)), sorted(values), color=_BLUE, alpha=0.7, linewidth=0)
    if bound is not None:
        axes.axhline(bound, color=_ORANGE, linewidth=1.2, label="average")
    axes.set_xlim(0, len(values) - 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("shards, the least first")
    axes.set_ylabel(what)
    return as_svg(figure, axes)


def batches(curves: Sequence[BatchCurve]) -> str:
    """Plot what an event costs by shards and linger time."""
    figure = Figure(figsize=_SIZE)
    axes = figure.subplots()
    for curve, colour in zip(curves, (_BLUE, _ORANGE, _GREEN), strict=True):
        axes.plot(curve.shards, curve.cpu_us, "o-", color=colour, label=f"linger {curve.linger_ms:g} ms")
    axes.set_xscale("log")
    axes.set_xticks(curves[0].shards, [str(count) for count in curves[0].shards])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("shards that one consumer writes to")
    axes.set_ylabel("µs of CPU for an event")
    return as_svg(figure, axes)
