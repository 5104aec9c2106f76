"""`postorder migrate`: bring every shard's tables up to date, say what that would do, or how far each is."""

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from consumers.audited import audited
from consumers.command import ConfigOption, run_async, settings_from
from consumers.migration import migrate_all, planned, read_states
from consumers.reachable import reachable
from consumers.tables import standard_output
from pipeline.settings import Settings
from pipeline.storage.migrator import LOCK_WAIT_S
from pipeline.storage.schema_version import SchemaState

migrate_app = typer.Typer()

_AUDIT_SINCE = 9
"""The migration that makes the table of the audit."""

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and change nothing.")]


@migrate_app.callback(invoke_without_command=True)
def migrate_command(
    context: typer.Context,
    dry_run: DryRunOption = False,  # noqa: FBT002
    lock_wait_s: Annotated[
        float, typer.Option(min=0, max=3600, help="How long to wait for another migration to end, in s.")
    ] = LOCK_WAIT_S,
    config: ConfigOption = None,
) -> None:
    """Bring every shard's tables up to date. Safe to run again; after a failure it goes on from there."""
    if context.invoked_subcommand is not None:
        context.obj = config
        return
    settings = settings_from(config)
    if dry_run:
        for line in run_async(planned(settings)):
            typer.echo(line)
    else:
        run_async(_migrate(settings, lock_wait_s))


async def _migrate(settings: Settings, lock_wait_s: float) -> None:
    """Migrate on record. The first time there is no place for a record before there are tables."""
    what, target = "migrate", "every shard"
    if any(state.number >= _AUDIT_SINCE for state in await read_states(settings)):
        async with reachable(settings) as cluster, audited(cluster, what, target) as action:
            lines = await migrate_all(settings, typer.echo, lock_wait_s=lock_wait_s)
            action.detail = "; ".join(lines)
        return
    lines = await migrate_all(settings, typer.echo, lock_wait_s=lock_wait_s)
    async with reachable(settings) as cluster, audited(cluster, what, target, "when it was done") as action:
        action.detail = "; ".join(lines)


@migrate_app.command()
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list, an object for each shard.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Show each shard's migrations: applied, pending, changed since. Exits with 1 unless all are level."""
    states = run_async(read_states(settings_from(config or context.obj)))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode([_as_json(state) for state in states])))
    else:
        standard_output().print(_table(states))
    raise typer.Exit(0 if _are_level(states) else 1)


def _are_level(states: list[SchemaState]) -> bool:
    wrong = any(state.pending or state.changed for state in states)
    return not wrong and len({state.number for state in states}) == 1


def _as_json(state: SchemaState) -> dict[str, object]:
    return {"shard": state.shard, "number": state.number, **msgspec.structs.asdict(state)}


def _table(states: list[SchemaState]) -> Table:
    table = Table("shard", "applied", "last at", "pending", "remarks")
    for state in states:
        last = state.applied[-1] if state.applied else None
        remarks = [f"[red]{name} was changed after it was applied[/red]" for name in state.changed]
        remarks += [f"{name} is newer than this program" for name in state.newer]
        remarks += [f"slots are moving: {move}" for move in state.moves]
        table.add_row(
            state.shard,
            last.name if last else "nothing",
            f"{last.applied_at:%Y-%m-%d %H:%M:%S}Z" if last else "",
            "\n".join(state.pending) or "none",
            "\n".join(remarks),
        )
    return table
