"""The command behind `postorder demo`: the stack up, the replay, the report, the stack down."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop
from rich.console import Console

from consumers.stack_commands import bring_up, say
from loadtest.demo import FOLDER, GRACE_S, DemoConfig, run_demo
from loadtest.demo_report import DemoReport, print_report
from pipeline.errors import SettingsError
from stack.launcher import StackConfig, down, status

DATA_DIR = Path("var/stack")
REPORT = FOLDER / "report.json"


def demo(
    orders: Annotated[str, typer.Option(help="How many orders of the history: a number, or `all`.")] = "2000",
    rate: Annotated[float, typer.Option(min=1, max=100_000, help="Orders published per second.")] = 200.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running.")] = False,  # noqa: FBT002
) -> None:
    """Replay a real order history through the whole pipeline and check that the numbers add up."""
    if orders != "all" and not (orders.isdecimal() and int(orders) > 0):
        raise SettingsError([f"--orders: must be a number above 0 or `all`, not {orders!r}"])
    config = DemoConfig(orders=None if orders == "all" else int(orders), rate_per_s=rate)
    raise typer.Exit(0 if carried_out(config, keep=keep).passed else 1)


def carried_out(config: DemoConfig, *, keep: bool) -> DemoReport:
    """Run the demo from nothing to the report; leave the stack as it was found, or up if asked to."""
    found = status(DATA_DIR)
    was_running = found is not None and found.running
    console = Console()
    started = time.monotonic()
    try:
        stack = bring_up(StackConfig(data_dir=DATA_DIR))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(run_demo(config, stack, DATA_DIR / "postorder.toml", say_demo, console))
        _write(report)
        print_report(report, console)
    finally:
        if not (keep or was_running):
            down(DATA_DIR, say)
    say_demo(f"took {time.monotonic() - started:.0f} s with the stack; report: {REPORT}")
    _where_to_look(kept=keep or was_running)
    return report


def say_demo(text: str) -> None:
    """Print progress to stderr."""
    typer.echo(f"demo: {text}", err=True)


def _write(report: DemoReport) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    temporary = REPORT.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    temporary.replace(REPORT)


def _where_to_look(*, kept: bool) -> None:
    say_demo(f"log of the pipeline: {FOLDER / 'pipeline.log'} (grace window for this run: {GRACE_S:g} s)")
    if kept:
        say_demo("the stack is up: try `postorder status`, `postorder stack status`, `postorder run`")
        say_demo("stop it with `postorder stack down`")
    else:
        say_demo("to look around afterwards: make demo ARGS=--keep")
