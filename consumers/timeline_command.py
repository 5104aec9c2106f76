"""`postorder timeline`: the whole story of an order's messages."""

from typing import Annotated

import msgspec
import typer

from consumers.command import ConfigOption, run_async, settings_from
from consumers.effects import order_story
from consumers.tables import standard_output
from consumers.timeline_report import entries_of, order_table, print_entries, without_contacts
from pipeline.observability.correlation import correlation_id

ContactsOption = Annotated[
    bool, typer.Option("--show-contacts", help="Show name, address and number in full.")
]


def timeline(
    order_id: Annotated[str, typer.Argument(help="The order's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,  # noqa: FBT002
    show_contacts: ContactsOption = False,  # noqa: FBT002  # typer's form of a flag
    config: ConfigOption = None,
) -> None:
    """Tell what happened to an order's messages, in order of time. Asks its shard's primary."""
    story = run_async(order_story(settings_from(config), order_id))
    if story.order is None and not story.invoices:
        typer.echo(f"postorder: order {order_id}: nothing is known of it", err=True)
        raise typer.Exit(1)
    if not show_contacts:
        story = without_contacts(story)
    entries = entries_of(story)
    if as_json:
        told = {"order": story.order, "correlation_id": correlation_id(order_id), "entries": entries}
        typer.echo(msgspec.json.format(msgspec.json.encode(told)))
        return
    console = standard_output()
    if story.order is None:
        console.print("the order itself has not come yet")
    else:
        console.print(order_table(story.order))
    print_entries(entries, console)
