"""`postorder`: every command. Each says what is wrong in one line per problem and exits with a status."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from consumers.api_commands import api_app
from consumers.audit_commands import audit
from consumers.bounces_commands import bounces_app
from consumers.command import ConfigOption, config_path, find_shard_in, run_async, settings_from
from consumers.effects_commands import effects_app
from consumers.get_commands import get_app
from consumers.limits_commands import limits_app
from consumers.migrate_commands import migrate_app
from consumers.quarantine_commands import quarantine_app
from consumers.recipients_commands import recipients_app
from consumers.retention_commands import retention_app
from consumers.roles import Role
from consumers.shards_commands import shards_app
from consumers.stack_commands import stack_app
from consumers.templates_commands import templates_app
from consumers.timeline_command import timeline
from loadtest.planning.plan_command import plan
from loadtest.scenarios.command import loadtest_app
from pipeline.errors import PostorderError, SettingsError
from pipeline.settings import Settings

USAGE_ERROR = 2

app = typer.Typer(
    help="Order post-processing: RabbitMQ to sharded PostgreSQL to SMS and e-mail.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
topology_app = typer.Typer(help="The broker's exchanges and queues.", no_args_is_help=True)
app.add_typer(topology_app, name="topology")
app.add_typer(migrate_app, name="migrate")
app.add_typer(get_app, name="get")
app.add_typer(effects_app, name="effects")
app.command()(timeline)
app.command()(plan)
app.command()(audit)
app.add_typer(limits_app, name="limits")
app.add_typer(api_app, name="api")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(recipients_app, name="recipients")
app.add_typer(bounces_app, name="bounces")
app.add_typer(retention_app, name="retention")
app.add_typer(shards_app, name="shards")
app.add_typer(stack_app, name="stack")
app.add_typer(loadtest_app, name="loadtest")
app.add_typer(templates_app, name="templates")


def main() -> None:
    """Run the command line; our own errors come out as one line each, not as a stack trace."""
    try:
        app()
    except SettingsError as error:
        for problem in error.problems:
            complain(problem)
        sys.exit(USAGE_ERROR)
    except PostorderError as error:
        complain(str(error))
        sys.exit(1)


def complain(text: str) -> None:
    """Say what is wrong, on stderr."""
    typer.echo(f"postorder: {text}", err=True)


@app.command()
def run(
    only: Annotated[
        str,
        typer.Option(
            help="Comma-separated: order-processed, invoice-generated, customer-updated, notifications, "
            "public, api."
        ),
    ] = "",
    workers: Annotated[
        str, typer.Option(help="Processes under a supervisor: a number, or auto, within section [allocator].")
    ] = "1",
    config: ConfigOption = None,
) -> None:
    """Run the pipeline until SIGTERM or Ctrl-C; a second signal stops it at once."""
    roles = _roles(only)
    settings = settings_from(config)
    if workers != "1":
        raise typer.Exit(_supervised(settings, roles, config_path(config), workers))
    from consumers.bootstrap import Process  # noqa: PLC0415  # commands load only what they need

    async def process() -> int:
        return await Process(settings, roles, find_shard_in(config_path(config))).run()

    raise typer.Exit(run_async(process()))


def _supervised(settings: Settings, roles: frozenset[Role], config: Path, workers: str) -> int:
    from consumers.allocator.run import SupervisorProcess, wanted_workers  # noqa: PLC0415  # as above

    count = wanted_workers(workers)

    async def supervise() -> int:
        return await SupervisorProcess(settings, roles, config, count).run()

    return run_async(supervise())


def _roles(only: str) -> frozenset[Role]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(Role)]
    if unknown:
        raise SettingsError([f"--only: {name} is no role: choose from {', '.join(Role)}" for name in unknown])
    return frozenset(Role(name) for name in names) or frozenset(Role)


@topology_app.command("apply")
def topology_apply(config: ConfigOption = None) -> None:
    """Declare exchanges and queues. Safe to run again."""
    from consumers.migration import apply_to_broker  # noqa: PLC0415  # commands load only what they need

    names = run_async(apply_to_broker(settings_from(config)))
    typer.echo(f"{len(names)} queues are in place: {', '.join(names)}")


@app.command()
def publish(
    files: Annotated[list[Path], typer.Argument(help="JSON, JSON lines or an array; - is standard input.")],
    upstream: Annotated[
        str,
        typer.Option(
            "--from",
            help="The files hold documents of: shopify, woocommerce, stripe, square, saleor, or FILE.toml.",
        ),
    ] = "",
    header: Annotated[
        list[str] | None, typer.Option(help="A webhook's header, 'Name: value'; may be repeated.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Publish events, each with the broker's confirm. Bad ones are named and not published."""
    from consumers.publishing import publish_files  # noqa: PLC0415  # as above
    from pipeline.adapters.mapping import load_adapter  # noqa: PLC0415  # as above

    adapter = load_adapter(upstream) if upstream else None
    headers = _headers(header or [])
    result = run_async(publish_files(settings_from(config), files, adapter, headers))
    for problem in result.problems:
        complain(problem)
    typer.echo(f"{result.confirmed} events confirmed")
    raise typer.Exit(1 if result.problems else 0)


def _headers(given: list[str]) -> dict[str, str]:
    pairs = [text.partition(":") for text in given]
    wrong = [f"--header: must be 'Name: value', not {name!r}" for name, colon, _ in pairs if not colon]
    if wrong:
        raise SettingsError(wrong)
    return {name.strip(): value.strip() for name, _, value in pairs}


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Show KPIs, totals, queues, replicas, and whether everything adds up."""
    import msgspec  # noqa: PLC0415  # as above

    from consumers.status import print_status, status_of  # noqa: PLC0415  # as above

    found = run_async(status_of(settings_from(config)))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        print_status(found, Console())
    raise typer.Exit(0 if found.accounting.balances else 1)


@app.command()
def demo(
    orders: Annotated[str, typer.Option(help="How many orders of the history: a number, or `all`.")] = "2000",
    rate: Annotated[float, typer.Option(min=1, max=100_000, help="Orders published per second.")] = 200.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running.")] = False,  # noqa: FBT002
) -> None:
    """Replay a real order history through the whole pipeline and check that the numbers add up."""
    from loadtest.demo import DemoConfig  # noqa: PLC0415  # as above
    from loadtest.demo_command import demo as run_demo  # noqa: PLC0415  # as above

    if orders != "all" and not (orders.isdecimal() and int(orders) > 0):
        raise SettingsError([f"--orders: must be a number above 0 or `all`, not {orders!r}"])
    config = DemoConfig(orders=None if orders == "all" else int(orders), rate_per_s=rate)
    raise typer.Exit(0 if run_demo(config, keep=keep).passed else 1)
