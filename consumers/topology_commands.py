"""`postorder topology`: what the broker has to hold before anything is published."""

import typer

from consumers.command import ConfigOption, run_async, settings_from
from consumers.migration import apply_to_broker

topology_app = typer.Typer(help="The broker's exchanges and queues.", no_args_is_help=True)


@topology_app.command("apply")
def topology_apply(config: ConfigOption = None) -> None:
    """Declare exchanges and queues. Safe to run again."""
    names = run_async(apply_to_broker(settings_from(config)))
    typer.echo(f"{len(names)} queues are in place: {', '.join(names)}")
