"""A process of the pipeline that keeps growing is named by a soak; what an allocator takes once is not."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from load_runs import STEADY, observed, reported
from rich.console import Console

from loadtest.scenarios.catalogue import scenario_named
from loadtest.scenarios.figures import memory_figures
from loadtest.scenarios.observation import Span
from loadtest.scenarios.page import page_of
from loadtest.scenarios.report import NOT_JUDGED, Report, read_report, write_report
from loadtest.scenarios.scenario import Phase, Threshold
from loadtest.scenarios.summary import print_summary

OF_SENDER = "memory.sender.growth_mb_per_h"


def soaked(sender_mb: Callable[[float], float] | None, seconds: float = 1200.0) -> Report:
    """A run whose sender has so much memory by second of the run; None: no process is the run's own."""
    scenario = msgspec.structs.replace(
        STEADY,
        rate_per_s=0.5,
        phases=(STEADY.phases[0], Phase(name="steady", seconds=seconds - 2)),
        thresholds=(Threshold(figure=OF_SENDER, at_most=5),),
    )
    seen = observed(scenario)
    for number, sample in enumerate(seen.samples):
        rss = {"intake": 80.0, "sender": round(sender_mb(sample.at_s), 1)} if sender_mb else {}
        usage = msgspec.structs.replace(sample.usage, rss_mb=rss)
        seen.samples[number] = msgspec.structs.replace(sample, usage=usage)
    return reported(seen._replace(samples=seen.samples[::6]))


def figures_of(sender_mb: Callable[[float], float]) -> dict[str, float]:
    """The figures of memory alone."""
    [first, *_] = observed().samples
    samples = [
        msgspec.structs.replace(
            first,
            at_s=float(at_s),
            usage=msgspec.structs.replace(first.usage, rss_mb={"sender": round(sender_mb(at_s), 1)}),
        )
        for at_s in range(0, 1206, 6)
    ]
    return memory_figures(samples, [Span(Phase(name="steady", seconds=1200), 0.0, 1200.0)])


def test_a_process_that_grows_by_more_than_5_mb_an_hour_misses() -> None:
    for mb_per_h, passed in ((3.0, True), (6.0, False)):
        report = soaked(lambda at_s, rate=mb_per_h: 70 + rate * at_s / 3600)  # type: ignore[misc]
        assert report.figures[OF_SENDER] == pytest.approx(mb_per_h, abs=0.5)
        assert report.figures["memory.intake.growth_mb_per_h"] == 0
        assert report.passed == passed


@pytest.mark.parametrize("step_at_s", [700, 800, 900, 1000, 1100])
@pytest.mark.parametrize("step_mb", [2.0, -2.0])
def test_what_a_start_and_an_allocator_take_at_once_is_no_growth(step_at_s: float, step_mb: float) -> None:
    def sender_mb(at_s: float) -> float:
        return 70 + min(20.0, at_s / 20) + (step_mb if at_s > step_at_s else 0.0)

    assert figures_of(sender_mb)[OF_SENDER] == 0
    leak = figures_of(lambda at_s: sender_mb(at_s) + 8 * at_s / 3600)[OF_SENDER]
    assert leak == pytest.approx(8, abs=0.6)


def test_a_run_that_cannot_tell_does_not_judge_and_says_so(tmp_path: Path) -> None:
    for report in (soaked(lambda at_s: 70 + at_s, seconds=600), soaked(None)):
        assert OF_SENDER not in report.figures
        [one] = report.thresholds
        assert (one.judged, one.kept, report.passed) == (False, True, True)
        console = Console(width=200, file=StringIO())
        print_summary(report, console)
        assert f"not judged {OF_SENDER} ≤ 5: {NOT_JUDGED}" in console.file.getvalue()  # type: ignore[attr-defined]
        assert NOT_JUDGED in page_of(report)
        assert read_report(write_report(report, tmp_path)).exit_status == 0
    assert soaked(None).memory_growth_mb_per_h is None


def test_the_soak_looks_at_every_process() -> None:
    bounds = {each.figure: each.at_most for each in scenario_named("soak").thresholds}
    for part in scenario_named("soak").parts:
        assert bounds[f"memory.{part}.growth_mb_per_h"] == 5
