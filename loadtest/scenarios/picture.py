"""`python -m loadtest.scenarios.picture`: one plot of a report as a file, for a page other than its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from loadtest.scenarios import plots
from loadtest.scenarios.report import Report, read_report
from pipeline.errors import SettingsError

PLOTS: Mapping[str, Callable[[Report], str]] = {
    "allocator": plots.allocator,
    "backlog": plots.backlog,
    "cpu": plots.cpu,
    "latency": plots.latency_over_time,
    "rates": plots.rates,
}
_INK, _PAPER = "#1b1f24", "#ffffff"


def on_paper(svg: str) -> str:
    """Return a plot with a ground and an ink of its own: a picture on a page does not take the page's."""
    head, bracket, rest = svg.partition(">")
    ground = f'<rect width="100%" height="100%" fill="{_PAPER}"/>'
    return f"{head}{bracket}{ground}{rest}".replace("currentColor", _INK)


def main(
    report: Annotated[Path, typer.Argument(help="JSON of a run.")],
    plot: Annotated[str, typer.Argument(help=f"One of {', '.join(PLOTS)}.")],
    out: Annotated[Path, typer.Argument(help="SVG to write.")],
) -> None:
    """Write it."""
    if plot not in PLOTS:
        raise SettingsError([f"{plot}: no such plot: there are {', '.join(PLOTS)}"])
    svg = PLOTS[plot](read_report(report))
    if not svg:
        raise SettingsError([f"{report}: has nothing to show as {plot}"])
    out.write_text(on_paper(svg), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
