"""The run behind `postorder plan --simulate`: JSON, a page, and what it shows as lines."""

from pathlib import Path

import msgspec
from rich.console import Console

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.plan import Plan
from loadtest.planning.simulation.page import write_page
from loadtest.planning.simulation.study import Study, simulate
from pipeline.errors import SettingsError

COMMAND = "postorder plan --simulate"


def simulate_plan(plan: Plan, costs: CostVector, given: Assumptions, folder: Path) -> Study:
    """Simulate, and write FOLDER/simulation.json and .html. Raises SettingsError for a plan of nothing."""
    if plan.sizing is None:
        raise SettingsError([f"--simulate: there is no plan to simulate: {plan.problems[0]}"])
    folder.mkdir(parents=True, exist_ok=True)
    study = simulate(plan.demand, costs, given, plan.sizing, COMMAND)
    (folder / "simulation.json").write_bytes(msgspec.json.format(msgspec.json.encode(study)))
    write_page(study, folder / "simulation.html")
    return study


def print_study(study: Study, folder: Path, console: Console) -> None:
    """Print what each scenario shows."""
    given = study.installation
    console.print(
        f"simulated: {given.shards} shards in one installation, {study.busy_share:.0%} busy on average"
    )
    for outcome in study.outcomes:
        console.print(f"{outcome.name}: p99 {outcome.everything.p99_ms:,.0f} ms", style="bold")
        for note in outcome.notes:
            console.print(f"  {note}", highlight=False)
    console.print(f"{folder / 'simulation.html'} and simulation.json written")
