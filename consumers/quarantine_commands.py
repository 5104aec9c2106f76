"""`postorder quarantine`: look at what was no valid event, publish it again, or drop it."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated

import typer
from rich.table import Table

from consumers.audited import on_record
from consumers.command import ConfigOption, run_async, settings_from, tell_missing
from consumers.quarantine import Worked, count, drop, export, exported, find, redrive
from consumers.tables import standard_output
from pipeline.errors import PostorderError, SettingsError
from pipeline.storage.quarantine import Filter, Quarantined, QuarantineState

quarantine_app = typer.Typer(help="Deliveries that were no valid event.", no_args_is_help=True)

_ID = re.compile(r"[0-9a-f]{4,32}")
_LISTED_MAX = 10_000  # for more there is `export`, which holds but some in memory

IdsArgument = Annotated[
    list[str] | None, typer.Argument(help="Ids, or their first digits (at least 4). Default: all that match.")
]
ReasonOption = Annotated[str | None, typer.Option(help="Only this reason, for example invalid_data.")]
QueueOption = Annotated[str | None, typer.Option(help="Only from this queue.")]
SinceOption = Annotated[str | None, typer.Option(help="Last seen at or after this time (ISO 8601).")]
UntilOption = Annotated[str | None, typer.Option(help="Last seen before this time (ISO 8601).")]
StateOption = Annotated[QuarantineState, typer.Option(help="held, redriven or dropped.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@quarantine_app.command("list")
def list_command(  # noqa: PLR0917  # each is an option
    ids: IdsArgument = None,
    reason: ReasonOption = None,
    queue: QueueOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    state: StateOption = QuarantineState.HELD,
    limit: Annotated[int, typer.Option(min=1, max=_LISTED_MAX, help="How many at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """List deliveries, those seen longest ago first. Bodies are not shown: they hold personal data."""
    wanted = _filter(ids, reason, queue, since, until, state)
    found = run_async(find(settings_from(config), wanted, limit))
    if as_json:
        for line in exported(found.deliveries):
            typer.echo(line)
    else:
        _print_table(found.deliveries)
        if len(found.deliveries) == limit:
            typer.echo(f"there may be more than these {limit}: see --limit", err=True)
    tell_missing(found.missing)


@quarantine_app.command()
def show(
    ids: Annotated[list[str], typer.Argument(help="Ids, or their first digits (at least 4).")],
    config: ConfigOption = None,
) -> None:
    """Show deliveries with headers and body."""
    wanted = _filter(ids, None, None, None, None, *QuarantineState)
    found = run_async(find(settings_from(config), wanted, 100))
    for one in found.deliveries:
        _print_one(one)
    if not found.deliveries and not found.missing:
        typer.echo("postorder: no such delivery in quarantine", err=True)
        raise typer.Exit(1)
    tell_missing(found.missing)


@quarantine_app.command("export")
def export_command(  # noqa: PLR0917  # each is an option
    file: Annotated[Path, typer.Argument(help="Where to write lines of JSON; - is standard output.")],
    ids: IdsArgument = None,
    reason: ReasonOption = None,
    queue: QueueOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    state: StateOption = QuarantineState.HELD,
    config: ConfigOption = None,
) -> None:
    """Write deliveries to a file, bodies as base64. Readable by its owner only: it holds personal data."""
    wanted = _filter(ids, reason, queue, since, until, state)
    settings = settings_from(config)
    try:
        with _private(file) as target:
            deliveries = run_async(export(settings, wanted, target.write))
    except OSError as error:
        raise PostorderError(f"{file}: {error.strerror}: nothing was exported") from error
    typer.echo(f"{deliveries} deliveries exported", err=True)


@contextmanager
def _private(file: Path) -> Iterator[IO[bytes]]:
    """Open a file for its owner alone; it takes its place, and an old one's, when all is written."""
    path = file.resolve()
    if str(file) == "-":
        yield sys.stdout.buffer
    elif path.exists() and not path.is_file():  # a pipe, or a device
        with path.open("wb") as target:
            yield target
    else:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as target:
            unfinished = Path(target.name)
            try:
                yield target
            except BaseException:
                unfinished.unlink()
                raise
        unfinished.replace(path)


@quarantine_app.command("redrive")
def redrive_command(  # noqa: PLR0917  # each is an option
    ids: IdsArgument = None,
    reason: ReasonOption = None,
    queue: QueueOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    dry_run: DryRunOption = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Publish held deliveries again, as they came. What is still bad is held again."""
    wanted = _filter(ids, reason, queue, since, until, QuarantineState.HELD)
    settings = settings_from(config)
    if dry_run:
        typer.echo(f"{run_async(count(settings, wanted))} deliveries would be redriven")
        return
    worked = run_async(
        on_record(
            settings, "quarantine.redrive", _named(wanted), lambda: redrive(settings, wanted), told=_count_of
        )
    )
    typer.echo(f"{worked.done} deliveries redriven")
    _tell_rest(worked)


@quarantine_app.command("drop")
def drop_command(  # noqa: PLR0917  # each is an option
    ids: IdsArgument = None,
    reason: ReasonOption = None,
    queue: QueueOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    dry_run: DryRunOption = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Give held deliveries up. Their rows stay, and are no longer listed."""
    wanted = _filter(ids, reason, queue, since, until, QuarantineState.HELD)
    settings = settings_from(config)
    deliveries = run_async(count(settings, wanted))
    if dry_run:
        typer.echo(f"{deliveries} deliveries would be dropped")
        return
    if deliveries and not yes:
        typer.confirm(f"Drop {deliveries} deliveries?", abort=True)
    worked = Worked()
    if deliveries:
        worked = run_async(
            on_record(
                settings, "quarantine.drop", _named(wanted), lambda: drop(settings, wanted), told=_count_of
            )
        )
    typer.echo(f"{worked.done} deliveries dropped")
    _tell_rest(worked)


def _named(wanted: Filter) -> str:
    """Return which deliveries were chosen, for the record: by ids, by what else, or all."""
    chosen = {"reason": wanted.reason, "queue": wanted.queue, "since": wanted.since, "until": wanted.until}
    named = [f"{name}={value}" for name, value in chosen.items() if value is not None]
    return " ".join([*wanted.ids, *named]) or "all that are held"


def _count_of(worked: Worked) -> str:
    return f"{worked.done} deliveries"


def _tell_rest(worked: Worked) -> None:
    """Say what is held still, and end with 1 if something went wrong."""
    for problem in worked.problems:
        typer.echo(f"postorder: {problem}", err=True)
    if worked.still_held:
        typer.echo(
            f"{worked.still_held} are still held: they came again meanwhile, or are moving to another shard",
            err=True,
        )
    if worked.problems:
        raise typer.Exit(1)


def _filter(
    ids: list[str] | None,
    reason: str | None,
    queue: str | None,
    since: str | None,
    until: str | None,
    *states: QuarantineState,
) -> Filter:
    problems: list[str] = []
    prefixes = [text.lower().replace("-", "") for text in ids or []]
    problems += [
        f"{text}: an id is 4 to 32 hexadecimal digits" for text in prefixes if not _ID.fullmatch(text)
    ]
    times = {}
    for option, text in (("--since", since), ("--until", until)):
        try:
            times[option] = _time(text)
        except ValueError:
            problems.append(f"{option}: must be a time such as 2026-11-21T10:00:00Z, not {text!r}")
    if problems:
        raise SettingsError(problems)
    return Filter(
        states=states,
        reason=reason,
        queue=queue,
        since=times["--since"],
        until=times["--until"],
        ids=tuple(prefixes),
    )


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _print_table(found: list[Quarantined]) -> None:
    table = Table("id", "shard", "reason", "detail", "queue", "seen", "last seen", "bytes")
    for one in found:
        table.add_row(
            one.id[:12],
            one.shard,
            one.reason,
            one.detail[:60],
            one.queue,
            str(one.seen),
            f"{one.last_seen_at:%Y-%m-%d %H:%M:%S}",
            str(len(one.body)),
        )
    standard_output().print(table)


def _print_one(one: Quarantined) -> None:
    shown = (
        "id", "shard", "state", "reason", "detail", "queue", "exchange", "routing_key", "content_type",
        "message_id", "headers", "seen", "first_seen_at", "last_seen_at",
    )  # fmt: skip
    for name in shown:
        typer.echo(f"{name + ':':<15} {_printable(str(getattr(one, name)))}")
    typer.echo(f"body ({len(one.body)} bytes):")
    typer.echo(_printable(one.body.decode(errors="backslashreplace")))


def _printable(text: str) -> str:
    """Return a text whose control characters cannot do anything to a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
