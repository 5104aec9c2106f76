"""The run behind `postorder plan --verify`: a stack of its own, a ramp, a table."""

import asyncio
from pathlib import Path

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from consumers.stack_commands import say
from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.verification import ERROR_MAX, Verification, verify
from loadtest.scenarios.report import Report, write_report
from loadtest.scenarios.runner import Run
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import Phase, Scenario
from loadtest.scenarios.target import own_stack

COMMAND = "postorder plan --verify"


class _Audience:
    """Says each phase once. Mutable state: the phase said last."""

    def __init__(self) -> None:
        self._said: Phase | None = None

    def say(self, text: str) -> None:
        """Take a line."""
        say(text)

    def tell(self, sample: Sample, phase: Phase | None) -> None:
        """Take a sample."""
        if phase is not None and phase is not self._said:
            self._said = phase
            say(f"{phase.name}: {phase.load:g} of the predicted knee; {sample.committed:,} events so far")


def verify_here(
    demand: Demand, costs: CostVector, given: Assumptions, folder: Path, data_dir: Path
) -> Verification:
    """Run it, write FOLDER/verify.json, return what was found. Raises LoadTestError."""

    def run(scenario: Scenario, where: Path) -> Report:
        with own_stack(scenario, data_dir, say) as target:
            load = Run(scenario, target, where, _Audience())
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report = runner.run(load.carry_out(COMMAND))
        write_report(report, where)
        return report

    folder.mkdir(parents=True, exist_ok=True)
    found = verify(demand, costs, given, run, folder)
    (folder / "verify.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return found


def _knee(found: Verification) -> list[str]:
    """Return lines: what was measured, and what was predicted with its error."""
    if not found.knee_measured:
        return [f"knee: none measured: not even the first step was kept up with ({found.gave_out})"]
    is_good = abs(found.error) <= ERROR_MAX
    wanted = "as good as wanted" if is_good else f"more than the {ERROR_MAX:.0%} wanted"
    beside = f"{found.equipment_us:,.0f} µs for an order and {found.equipment_cores:.2f} cores"
    return [
        f"knee: {found.knee_measured:,.0f} orders/s measured ({found.gave_out})",
        f"  {found.knee_predicted:,.0f} predicted ({found.limit}): error {found.error:+.1%}, {wanted}",
        f"  room left for the test itself, {beside}, and {found.other_cores:.2f} cores of others",
    ]


def print_verification(found: Verification, console: Console) -> None:
    """Print predictions beside what was measured."""
    steps = Table("orders/s", "kept up", "busy, predicted", "measured", "p99 ms, predicted", "measured")
    for step in found.steps:
        steps.add_row(
            f"{step.orders_per_s:,.0f}",
            "yes" if step.kept_up else "no",
            f"{step.busy_predicted:.0%}",
            f"{step.busy_measured:.0%}",
            f"{step.p99_predicted_ms:,.0f}",
            f"{step.p99_measured_ms:,.0f}",
        )
    parts = Table("part", "µs for an order, measured", "by the vector", "error", "by first steps", "error")
    for part in found.parts:
        cells = [f"{part.measured_us:,.0f}"]
        for micros in (part.predicted_us, part.calibrated_us):
            error = micros / part.measured_us - 1 if part.measured_us else 0.0
            cells += [f"{micros:,.0f}", f"{error:+.0%}"]
        parts.add_row(part.part, *cells)
    for table in (steps, parts):
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)
    for line in _knee(found):
        console.print(line, highlight=False, soft_wrap=True)
    for problem in found.problems:
        typer.echo(f"postorder: the run was not valid: {problem}", err=True)
