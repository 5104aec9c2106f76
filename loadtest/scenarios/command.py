"""`postorder loadtest SCENARIO|list|run|compare|page|schema`."""

import asyncio
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from loadtest.scenarios.catalogue import SCENARIOS, scenario_named
from loadtest.scenarios.group import ScenarioGroup
from loadtest.scenarios.scenario import LoadTestError, Scenario, scenario_of_file, stretched
from loadtest.scenarios.thresholds import threshold_of
from pipeline.errors import SettingsError

if TYPE_CHECKING:  # commands load only what they need: plots and histograms take a second
    from loadtest.scenarios.report import Report
    from loadtest.scenarios.target import Target

FOLDER = Path("var/loadtest")
CACHE = Path("var/cache")

loadtest_app = typer.Typer(
    cls=ScenarioGroup,
    help="Load tests of the whole pipeline: scenarios, reports, comparisons.\n\n"
    "A scenario's name, or FILE.toml, runs it: `loadtest steady` is `loadtest run steady`.",
    no_args_is_help=True,
)


@loadtest_app.command("list")
def list_scenarios() -> None:
    """Show the scenarios."""
    table = Table("scenario", "orders/s", "seconds", "what it shows")
    for scenario in SCENARIOS.values():
        table.add_row(scenario.name, f"{scenario.rate_per_s:g}", f"{scenario.seconds:g}", scenario.purpose)
    Console().print(table)


@loadtest_app.command()
def run(  # noqa: PLR0917  # typer's options, given by name
    name: Annotated[str, typer.Argument(help="A scenario of `loadtest list`, or FILE.toml with one.")],
    rate: Annotated[float | None, typer.Option(help="Orders a second where the load is 1.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of all phases together.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of chance: the same seed, the same arrivals.")] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="FIGURE<=NUMBER or FIGURE>=NUMBER, in place of the scenario's.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option(help="Moments to replay, ISO 8601, one a line; default: CDNOW's orders.")
    ] = None,
    orders: Annotated[int | None, typer.Option(min=2, help="Of the history, the first so many.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings of an installation that runs; default: an own stack.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of reports, logs and the own stack.")] = FOLDER,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the own stack running.")] = False,  # noqa: FBT002
    may_break: Annotated[  # noqa: FBT002
        bool, typer.Option("--may-break-this-installation", help="With --config: kill servers, move slots.")
    ] = False,
    may_send: Annotated[  # noqa: FBT002
        bool, typer.Option("--may-send-messages", help="With --config: SMS and mails may reach people.")
    ] = False,
) -> None:
    """Run a scenario; write NAME.json and NAME.html. Exits 0 when it passed, 1 when not."""
    from loadtest.scenarios.arrivals import plan  # noqa: PLC0415  # as above

    with _wrong_use():
        scenario = _scenario(name, rate, seconds, seed, threshold or [])
        _check_thresholds(scenario, config)
        moments = _history(scenario, history, orders)
        plan(scenario, moments)  # refuses a rate at which nothing comes, or too much
    console = Console(stderr=True)
    with _target(scenario, config, out, keep=keep, may_break=may_break, may_send=may_send) as target:
        report = _run(scenario, target, out, console, moments)
    _finish(report, out)


@loadtest_app.command("compare")
def compare_runs(
    first: Annotated[Path, typer.Argument(help="JSON of a run.")],
    second: Annotated[Path, typer.Argument(help="JSON of another.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,  # noqa: FBT002
) -> None:
    """Show what changed from one run to another. Exits 1 when a figure is worse than noise explains."""
    from loadtest.scenarios.compare import compare, print_comparison  # noqa: PLC0415  # as above
    from loadtest.scenarios.report import read_report  # noqa: PLC0415  # as above

    with _wrong_use():
        found = compare(read_report(first), read_report(second))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        print_comparison(found, Console())
    raise typer.Exit(found.exit_status)


@loadtest_app.command()
def page(
    report: Annotated[Path, typer.Argument(help="JSON of a run.")],
    out: Annotated[Path | None, typer.Option(help="Default: beside it, as HTML.")] = None,
) -> None:
    """Write the HTML page of a run anew, from its JSON."""
    from loadtest.scenarios.page import write_page  # noqa: PLC0415  # as above
    from loadtest.scenarios.report import read_report  # noqa: PLC0415  # as above

    target = out or report.with_suffix(".html")
    with _wrong_use():
        write_page(read_report(report), target)
    typer.echo(f"{target} written")


@loadtest_app.command()
def schema() -> None:
    """Print the JSON Schema of reports."""
    from loadtest.scenarios.report import report_schema  # noqa: PLC0415  # as above

    typer.echo(msgspec.json.format(msgspec.json.encode(report_schema())))


@contextmanager
def _wrong_use() -> Iterator[None]:
    """Let what the command line asks for and cannot be end with status 2, as wrong settings do."""
    try:
        yield
    except LoadTestError as error:
        raise SettingsError([str(error)]) from error


def _scenario(
    name: str, rate: float | None, seconds: float | None, seed: int | None, thresholds: Sequence[str]
) -> Scenario:
    scenario = scenario_of_file(Path(name)) if name.endswith(".toml") else scenario_named(name)
    scenario = stretched(scenario, rate_per_s=rate, seconds=seconds)
    if seed is not None:
        scenario = msgspec.structs.replace(scenario, seed=seed)
    if thresholds:
        found = tuple(threshold_of(text) for text in thresholds)
        scenario = msgspec.structs.replace(scenario, thresholds=found)
    return scenario


def _check_thresholds(scenario: Scenario, config: Path | None) -> None:
    from loadtest.scenarios.figure_names import check_thresholds  # noqa: PLC0415  # as above
    from loadtest.scenarios.target import shard_names  # noqa: PLC0415  # as above

    check_thresholds(scenario, shard_names(scenario, config))


def _history(scenario: Scenario, file: Path | None, orders: int | None) -> list[datetime]:
    if not scenario.history:
        if file is not None or orders is not None:
            raise LoadTestError(f"{scenario.name} replays no history: --history and --orders are of `replay`")
        return []
    from loadtest.scenarios.arrivals import replayed  # noqa: PLC0415  # as above
    from loadtest.scenarios.histories import cdnow_history, history_of_file  # noqa: PLC0415  # as above

    moments = cdnow_history(CACHE, orders) if file is None else history_of_file(file)[:orders]
    replayed(moments, scenario.seconds)  # what cannot be replayed is refused before a stack starts
    return moments


@contextmanager
def _target(
    scenario: Scenario, config: Path | None, out: Path, *, keep: bool, may_break: bool, may_send: bool
) -> Iterator["Target"]:
    from consumers.stack_commands import say  # noqa: PLC0415  # as above
    from loadtest.scenarios.target import RefusedError, own_stack, running_target  # noqa: PLC0415  # as above

    if config is None:
        with own_stack(scenario, out / "stack", say, keep=keep) as target:
            yield target
    else:
        try:
            target = running_target(config, scenario, may_break=may_break, may_send=may_send)
        except RefusedError as error:
            raise SettingsError([str(error)]) from error
        yield target


def _run(
    scenario: Scenario, target: "Target", out: Path, console: Console, moments: Sequence[datetime]
) -> "Report":
    import uvloop  # noqa: PLC0415  # as above

    from loadtest.scenarios.progress import ConsoleAudience  # noqa: PLC0415  # as above
    from loadtest.scenarios.runner import Run  # noqa: PLC0415  # as above
    from pipeline.observability.logging import configure_logging  # noqa: PLC0415  # as above

    configure_logging("WARNING", "auto")

    async def carried_out(audience: ConsoleAudience) -> "Report":
        running = Run(scenario, target, out / scenario.name, audience)
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            audience.say("interrupted: reporting what was seen so far; again ends at once")
            running.stop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)  # the next one is Python's: KeyboardInterrupt

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        return await running.carry_out(shlex.join(["postorder", *sys.argv[1:]]), moments)

    with (
        ConsoleAudience(scenario, console) as audience,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(carried_out(audience))


def _finish(report: "Report", out: Path) -> None:
    from loadtest.scenarios.page import write_page  # noqa: PLC0415  # as above
    from loadtest.scenarios.report import write_report  # noqa: PLC0415  # as above
    from loadtest.scenarios.summary import print_summary  # noqa: PLC0415  # as above

    path = write_report(report, out)
    html = path.with_suffix(".html")
    write_page(report, html)
    print_summary(report, Console())
    typer.echo(f"{path} and {html} written")
    raise typer.Exit(report.exit_status)
