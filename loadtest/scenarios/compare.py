"""Two runs side by side: each figure's ratio, and whether it is more than the runs themselves vary."""

from math import hypot, inf

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.scenarios.figure_names import figure_names
from loadtest.scenarios.report import Report
from loadtest.scenarios.target import shard_names

NOISE_MIN = 0.05
"""Two runs of the same differ by this share at least, whatever their windows say."""

_SIGMAS = 2.0
_WORSE = "worse"
_PROBLEMS = "problems"
_SHOWN = (".p50_ms", ".p99_ms", ".orders_per_s", ".events_per_s", ".messages_per_s", "_per_min")


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of two runs. `ratio`: the second over the first; None: the first is 0.

    `noise`: how far two runs of the same may be apart, as a share; by windows of both where there are any.
    `verdict`: better, worse, or within noise; worse, too, when nothing of it came in the second run, and for
    `problems` when only the second did not add up; "only one has it" when the runs are no pair in this.
    """

    figure: str
    first: float | None
    second: float | None
    ratio: float | None
    noise: float
    verdict: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of two runs. `warnings`: why they may not be comparable."""

    warnings: list[str]
    ratios: list[Ratio]

    @property
    def exit_status(self) -> int:
        """1: something is worse; 0: nothing is."""
        return 1 if any(one.verdict == _WORSE for one in self.ratios) else 0


def compare(first: Report, second: Report) -> Comparison:
    """Compare two runs."""
    names = [name for name in first.figures | second.figures if name.endswith(_SHOWN)]
    ratios = [_ratio(name, first, second) for name in names]
    if second.problems and not first.problems:
        count = float(len(second.problems))
        ratios.append(Ratio(figure=_PROBLEMS, first=0.0, second=count, ratio=None, noise=0.0, verdict=_WORSE))
    return Comparison(warnings=_warnings(first, second), ratios=ratios)


def _warnings(first: Report, second: Report) -> list[str]:
    found = []
    if first.scenario != second.scenario:
        found.append("the scenarios are not the same: another rate, other phases or settings")
    if first.machine != second.machine:
        found.append(f"the machines are not the same: {first.machine}, and {second.machine}")
    for name, report in (("first", first), ("second", second)):
        if not report.valid or report.interrupted:
            found.append(f"the {name} run is not valid")
        found += [f"the {name} run did not add up: {problem}" for problem in report.problems]
    return found


def _ratio(name: str, first: Report, second: Report) -> Ratio:
    one, other = first.figures.get(name), second.figures.get(name)
    noise = _noise(name, first, second)
    if one is None or other is None:
        verdict = _WORSE if other is None and _was_to_come(name, second) else "only one has it"
        return Ratio(figure=name, first=one, second=other, ratio=None, noise=noise, verdict=verdict)
    ratio = round(other / one, 4) if one else None
    return Ratio(
        figure=name, first=one, second=other, ratio=ratio, noise=noise, verdict=_verdict(name, ratio, noise)
    )


def _was_to_come(name: str, report: Report) -> bool:
    """Whether a run's scenario has a figure. Where a ramp ended says its knee, not the steps it left out."""
    scenario = report.scenario
    phase = name.partition(".")[0]
    left_out = {phase.name for phase in scenario.phases} - {phase.name for phase in report.phases}
    if scenario.ramp is not None and phase in left_out:
        return False
    return name in figure_names(scenario, shard_names(scenario, None))


def _verdict(name: str, ratio: float | None, noise: float) -> str:
    if ratio is None or abs(ratio - 1) <= noise:
        return "within noise"
    less_is_better = name.endswith("_ms")
    return "better" if (ratio < 1) == less_is_better else _WORSE


def _noise(name: str, first: Report, second: Report) -> float:
    """Return what two runs of the same differ by: twice the spread of their windows' figures, put together.

    Windows of one run vary more than whole runs do, so this is on the careful side.
    """
    spreads = [spread for report in (first, second) if (spread := _spread(name, report)) is not None]
    together = hypot(*spreads)
    return round(max(NOISE_MIN, _SIGMAS * together), 4)


def _spread(name: str, report: Report) -> float | None:
    phase_name, _, figure = name.partition(".")
    for phase in report.phases:
        if phase.name == phase_name:
            way, _, what = figure.rpartition(".")
            of_all = (
                f"{way.rpartition('_')[0]}.{what}"  # of all shards together: committed, of committed_shard0
            )
            return phase.spread.get(figure, phase.spread.get(of_all))
    return None


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the table, worst first."""
    for warning in comparison.warnings:
        console.print(f"[yellow]careful:[/yellow] {warning}", highlight=False)
    table = Table("figure", title_justify="left")
    for name in ("first", "second", "ratio", "noise", ""):
        table.add_column(name, justify="right")
    for one in sorted(comparison.ratios, key=_difference, reverse=True):
        table.add_row(
            one.figure,
            _text(one.first),
            _text(one.second),
            "" if one.ratio is None else f"{one.ratio:.3f}",
            f"±{one.noise:.0%}",
            _why(one),
        )
    console.print(table)


def _difference(one: Ratio) -> float:
    if one.ratio is None:
        return inf if one.verdict == _WORSE else 0.0
    return abs(one.ratio - 1)


def _why(one: Ratio) -> str:
    if one.verdict == _WORSE and one.ratio is None:
        return "worse: did not add up" if one.figure == _PROBLEMS else "worse: nothing came"
    return one.verdict


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"
