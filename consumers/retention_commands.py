"""`postorder retention run`: delete what is old now, and show what that does to each table."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from consumers.audited import audited
from consumers.command import ConfigOption, run_async, settings_from
from consumers.tables import standard_output
from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.retention import TableRetention, TableSurvey
from pipeline.storage.schema_version import schema_versions

retention_app = typer.Typer(help="Old inbox rows and settled messages.", no_args_is_help=True)


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What retention did to one table of one shard, or would do: then `after` is None."""

    shard: str
    table: str
    deleted: int
    before: TableSurvey
    after: TableSurvey | None


@retention_app.callback()
def retention() -> None:
    """Have sub-commands, also while there is only one."""


@retention_app.command()
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,  # noqa: FBT002
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list, an object for each table.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Delete what is older than `retention.keep_days` now, without waiting for the service, and vacuum."""
    settings = settings_from(config)
    if settings.retention.keep_days == 0:
        raise SettingsError(["retention.keep_days: is 0: rows are kept for ever"])
    effects = run_async(_run(settings, _progress(as_json), dry_run=dry_run))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(effects)))
    else:
        standard_output().print(_table(effects, settings.retention.keep_days))


def _progress(as_json: bool) -> Callable[[str], None]:  # noqa: FBT001  # the option
    return (lambda _line: None) if as_json else typer.echo


async def _run(settings: Settings, say: Callable[[str], None], *, dry_run: bool) -> list[Effect]:
    cluster = Cluster(settings)
    try:
        for shard in cluster:
            await shard.primary.open()
        await schema_versions(cluster)
        if dry_run:
            return await _apply_all(cluster, settings, say, dry_run=True)
        await cluster.load_map()
        keep = f"older than {settings.retention.keep_days} days"
        async with audited(cluster, "retention.run", "every shard", keep) as action:
            effects = await _apply_all(cluster, settings, say, dry_run=False)
            action.detail = f"{sum(one.deleted for one in effects)} rows"
        return effects
    finally:
        await cluster.close()


async def _apply_all(
    cluster: Cluster, settings: Settings, say: Callable[[str], None], *, dry_run: bool
) -> list[Effect]:
    return [
        await _apply(shard.name, table, say, dry_run=dry_run)
        for shard in cluster
        for table in TableRetention.both(shard, settings.retention)
    ]


async def _apply(shard: str, table: TableRetention, say: Callable[[str], None], *, dry_run: bool) -> Effect:
    before = await table.survey()
    if dry_run:
        return Effect(shard=shard, table=table.table, deleted=before.old_rows, before=before, after=None)
    deleted = 0
    async for rows in table.delete_all():
        deleted += rows
        await asyncio.sleep(table.pause_s)
    await table.vacuum()
    say(f"{shard}: {table.table}: {deleted:,} rows deleted")
    return Effect(shard=shard, table=table.table, deleted=deleted, before=before, after=await table.survey())


def _table(effects: list[Effect], keep_days: int) -> Table:
    is_plan = any(effect.after is None for effect in effects)
    table = Table("shard", "table", title=f"Older than {keep_days} days", title_justify="left")
    for name in ("rows", "old" if is_plan else "deleted", "row MB", "left", "file MB", "left"):
        table.add_column(name, justify="right")
    for effect in effects:
        before, after = effect.before, effect.after
        table.add_row(
            effect.shard,
            effect.table,
            f"{before.rows:,}",
            f"{effect.deleted:,}",
            _mb(before.row_bytes),
            _mb(before.row_bytes - before.old_bytes if after is None else after.row_bytes),
            _mb(before.file_bytes),
            "" if after is None else _mb(after.file_bytes),
        )
    return table


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"
