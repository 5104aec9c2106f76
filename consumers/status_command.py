"""`postorder status`: how everything is, and whether it adds up."""

from typing import Annotated

import msgspec
import typer

from consumers.command import ConfigOption, run_async, settings_from
from consumers.status import print_status, status_of
from consumers.tables import standard_output


def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Show KPIs, totals, queues, replicas, and whether everything adds up."""
    found = run_async(status_of(settings_from(config)))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        print_status(found, standard_output())
    raise typer.Exit(0 if found.is_well else 1)
