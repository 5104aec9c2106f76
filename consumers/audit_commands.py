"""`postorder audit`: what operators did."""

from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from consumers.command import ConfigOption, run_async, settings_from
from consumers.reachable import reachable
from consumers.tables import standard_output
from pipeline.clock import SystemClock
from pipeline.control.audit_log import AuditLog
from pipeline.settings import Settings
from pipeline.storage.audit import AuditEntry


def audit(
    actor: Annotated[str | None, typer.Option(help="Only what this one did.")] = None,
    what: Annotated[str | None, typer.Option(help="Only this kind, such as limits.set.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many entries at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one line an entry.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """List what operators did by commands and the API, the latest first: an entry before and one after."""
    found = run_async(_entries(settings_from(config), limit, actor, what))
    if as_json:
        for entry in found:
            typer.echo(msgspec.json.encode(entry))
    else:
        standard_output().print(_table(found))


async def _entries(settings: Settings, limit: int, actor: str | None, what: str | None) -> list[AuditEntry]:
    async with reachable(settings) as cluster:
        return await AuditLog(cluster, SystemClock()).entries(limit, actor=actor, what=what)


def _table(found: list[AuditEntry]) -> Table:
    table = Table("when", "who", "what", "of", "epoch", "outcome", "detail")
    for entry in found:
        table.add_row(
            f"{entry.at:%Y-%m-%d %H:%M:%S %Z}",
            *map(escape, map(_plain, (entry.actor, entry.what, entry.target))),
            str(entry.epoch),
            entry.outcome,
            escape(_plain(entry.detail)),
        )
    return table


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
