"""`postorder limits`: how much is sent at once and how fast, changed while everything runs."""

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from consumers.command import ConfigOption, run_async, settings_from
from consumers.limits import ShownLimit, list_limits, remove_limit, set_limit
from consumers.tables import standard_output
from pipeline.control.limit_board import Written

limits_app = typer.Typer(
    help="Limits of pools that count instead of the settings', within their bounds.", no_args_is_help=True
)

KeyArgument = Annotated[str, typer.Argument(help="SLOT.concurrency or SLOT.rate_per_s: see `list`.")]


@limits_app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one line a limit.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """List every limit that can be set, what is set, by whom, and how many processes go by it."""
    found = run_async(list_limits(settings_from(config)))
    if as_json:
        for shown in found:
            typer.echo(msgspec.json.encode(shown))
    else:
        standard_output().print(_table(found))


@limits_app.command("set")
def set_command(
    key: KeyArgument,
    value: Annotated[
        float, typer.Argument(help="Calls at once of each process, or messages per second of all.")
    ],
    for_s: Annotated[
        float | None,
        typer.Option("--for-s", min=1, max=86_400 * 30, help="For so many seconds. Default: until `remove`."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Have a limit count in every process that sends, within two seconds, and after their restarts."""
    _say(run_async(set_limit(settings_from(config), key, value, for_s)))


@limits_app.command("remove")
def remove_command(key: KeyArgument, config: ConfigOption = None) -> None:
    """Have the settings count again."""
    _say(run_async(remove_limit(settings_from(config), key)))


def _say(written: Written) -> None:
    limit = written.limit
    what = "removed" if limit.value is None else f"{limit.value:g}"
    typer.echo(f"{limit.key}: {what} (version {limit.version}, on {', '.join(written.homes)})")
    if written.away:
        typer.echo(f"not on {', '.join(written.away)}: away, and brought up to date later", err=True)


def _table(found: list[ShownLimit]) -> Table:
    table = Table("limit", "settings", "bounds", "set", "by", "since", "for another", "processes")
    for shown in found:
        bounds, limit = shown.range, shown.override
        cells = ("", "", "", "")
        if limit is not None:
            left = "" if limit.left_s is None else f"{limit.left_s:.0f} s"
            cells = (f"{limit.value:g}", limit.set_by, f"{limit.set_at:%Y-%m-%d %H:%M:%S %Z}", left)
        normal = f"{bounds.normal:g}" if bounds.normal else "no limit"
        table.add_row(
            bounds.key,
            normal,
            f"{bounds.floor:g} to {bounds.ceiling:g} {bounds.unit}",
            *cells,
            f"{shown.applied} of {shown.processes}",
        )
    return table
