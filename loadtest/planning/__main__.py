"""`python -m loadtest.planning`: what the cost vector is made of."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop

from consumers.stack_commands import say
from consumers.stack_settings import write_stack_settings
from loadtest.intake_bench import FOLDER
from loadtest.planning.cost_sources import as_toml, read_files
from loadtest.planning.cost_writer import new_costs
from loadtest.planning.costs import SHIPPED, CostVector, load_costs
from loadtest.planning.footprint_bench import measure_footprint
from pipeline.settings import load_settings
from stack.launcher import StackConfig, down, reset, up

app = typer.Typer(help="Figures that `postorder plan` goes by.", no_args_is_help=True)


@app.command()
def footprint(
    orders: Annotated[int, typer.Option(min=1000, help="With an invoice each.")] = 20_000,
    data_dir: Annotated[Path, typer.Option(help="Of the stack it starts.")] = FOLDER / "stack",
) -> None:
    """Measure bytes on disk and in the log, a minute; write var/bench/footprint.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        settings_file = write_stack_settings(up(StackConfig(data_dir=data_dir), say), data_dir)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measure_footprint(load_settings(settings_file, {}), settings_file, orders))
    finally:
        down(data_dir, say)
        reset(data_dir, say)
    text = msgspec.json.format(msgspec.json.encode(found)).decode()
    (FOLDER / "footprint.json").write_text(text)
    typer.echo(text)


@app.command()
def costs(
    bench: Annotated[Path, typer.Option(help="Where the benchmarks' JSON files are.")] = FOLDER,
    loadtests: Annotated[Path, typer.Option(help="Where those of load tests are.")] = Path("var/loadtest"),
    earlier: Annotated[
        Path, typer.Option(help="The vector whose figures stay if nothing is newer.")
    ] = SHIPPED,
    out: Annotated[Path, typer.Option(help="The vector to write.")] = SHIPPED,
) -> None:
    """Write the cost vector anew from what the benchmarks measured here."""
    before = load_costs(earlier)
    after = new_costs(before, read_files(bench, loadtests))
    out.write_text(as_toml({name: getattr(after, name) for name in CostVector.__struct_fields__}))
    for name in CostVector.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old.value != new.value:
            typer.echo(f"{name}: {old.value:g} -> {new.value:g} {new.unit}")
    typer.echo(f"{out} written")


app()
