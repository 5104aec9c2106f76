"""`postorder stack up|down|status|reset`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from consumers.stack_settings import write_stack_settings
from pipeline.errors import PostorderError
from stack.errors import StackError
from stack.launcher import StackConfig, down, reset, status, up
from stack.state import ShardConfig
from stack.status import StackStatus

stack_app = typer.Typer(
    help="The local stack: RabbitMQ, PostgreSQL pairs, SMTP sink, Twilio emulator.", no_args_is_help=True
)

DataDirOption = Annotated[Path, typer.Option("--data-dir", help="Where everything of the stack is kept.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]
DEFAULT_DATA_DIR = Path("var/stack")
DEFAULT_SHARDS = 2
INTERRUPTED = 130


class StackCommandError(PostorderError):
    """A stack command failed."""


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn what can go wrong with the stack into one line."""
    try:
        yield
    except StackError as error:
        raise StackCommandError(f"stack: {error}") from error
    except OSError as error:
        raise StackCommandError(f"stack: {error.filename or 'a file'}: {error.strerror}") from error


def shard_configs(
    shards: int, commit: list[str], asynchronous: list[str], strict: list[str]
) -> tuple[ShardConfig, ...]:
    """Return the shards of the options. Raises StackCommandError for a shard that is not among them."""
    names = [f"shard{number}" for number in range(shards)]
    commits = dict(item.partition("=")[::2] for item in commit)
    unknown = [name for name in (*commits, *asynchronous, *strict) if name not in names]
    if unknown:
        raise StackCommandError(f"{unknown[0]}: no such shard: there are {', '.join(names)}")
    allowed = ("on", "remote_apply", "remote_write", "local", "off")
    bad = [value for value in commits.values() if value not in allowed]
    if bad:
        raise StackCommandError(f"--synchronous-commit: {bad[0]!r} is none of {', '.join(allowed)}")
    return tuple(
        ShardConfig(
            name=name,
            synchronous_commit=commits.get(name, "on"),
            synchronous=name not in asynchronous,
            strict=name in strict,
        )
        for name in names
    )


def shards_of(data_dir: Path) -> int:
    """Return how many shards a stack has; 0 when there is none."""
    found = status(data_dir)
    return len(found.shards) if found else 0


def say(text: str) -> None:
    """Print progress to stderr, so that --json stays clean."""
    typer.echo(f"stack: {text}", err=True)


def bring_up(config: StackConfig) -> StackStatus:
    """Start the stack and write the settings for it."""
    with in_one_line():
        found = up(config, say)
        write_stack_settings(found, config.data_dir, with_callbacks=True)
    return found


@stack_app.command("up")
def stack_up(  # noqa: PLR0917  # typer's options, given by name
    shards: Annotated[
        int | None, typer.Option(min=1, max=64, help="PostgreSQL pairs. Default: those there are, or 2.")
    ] = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    synchronous_commit: Annotated[
        list[str] | None, typer.Option(help="SHARD=VALUE: what a commit waits for. Default: on.")
    ] = None,
    asynchronous: Annotated[
        list[str] | None, typer.Option(help="SHARD: commits do not wait for its replica.")
    ] = None,
    strict: Annotated[
        list[str] | None, typer.Option(help="SHARD: with --ha, commits wait also while it has no replica.")
    ] = None,
    ha: Annotated[bool, typer.Option("--ha", help="Each pair under Patroni, with etcd.")] = False,  # noqa: FBT002  # typer's form of a flag
    as_json: JsonOption = False,  # noqa: FBT002  # as above
) -> None:
    """Start what does not run. Safe to run again."""
    with in_one_line():
        count = shards or shards_of(data_dir) or DEFAULT_SHARDS
    configs = shard_configs(count, synchronous_commit or [], asynchronous or [], strict or [])
    try:
        found = bring_up(StackConfig(data_dir=data_dir, shards=configs, ha=ha))
    except KeyboardInterrupt:
        say(_interrupted(data_dir))
        raise typer.Exit(INTERRUPTED) from None
    _show(found, as_json=as_json)
    say(f"settings written to {data_dir / 'postorder.toml'}")


@stack_app.command("down")
def stack_down(data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Stop everything; the data stays."""
    with in_one_line():
        if not down(data_dir, say):
            say("nothing runs")


@stack_app.command("status")
def stack_status(data_dir: DataDirOption = DEFAULT_DATA_DIR, as_json: JsonOption = False) -> None:  # noqa: FBT002
    """Show every endpoint. Exits 1 when something does not run."""
    with in_one_line():
        found = status(data_dir)
    if found is None:
        raise StackCommandError(f"there is no stack in {data_dir}: run `postorder stack up`")
    _show(found, as_json=as_json)
    raise typer.Exit(0 if found.running else 1)


@stack_app.command("reset")
def stack_reset(data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Delete all data; start anew if it ran."""
    with in_one_line():
        found = reset(data_dir, say)
        if found:
            write_stack_settings(found, data_dir, with_callbacks=True)


def _interrupted(data_dir: Path) -> str:
    found = status(data_dir)
    states = [*found.components.values()] if found else []
    if "up" not in states:
        return "interrupted: nothing runs"
    where = "" if data_dir == DEFAULT_DATA_DIR else f" --data-dir {data_dir}"
    return (
        f"interrupted: {states.count('up')} of {len(states)} servers run: `postorder stack up{where}` starts "
        f"the rest, `postorder stack down{where}` stops them"
    )


def _show(found: StackStatus, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
        return
    rows = {
        "RabbitMQ": found.amqp_url,
        **{f"{shard.name} primary": shard.primary_dsn for shard in found.shards},
        **{f"{shard.name} replica": shard.replica_dsn for shard in found.shards},
        **{
            member.name: f"{member.role}, {member.state}, timeline {member.timeline or '?'}, {member.api_url}"
            for shard in found.shards
            for member in shard.members
        },
        "SMTP sink": f"{found.smtp.host}:{found.smtp.port}, read it at {found.smtp.api_url}/messages",
        "Twilio emulator": f"{found.twilio.base_url}, read it at {found.twilio.api_url}/messages",
        "data": found.data_dir,
    }
    for name, value in rows.items():
        typer.echo(f"{name:<16} {value}")
    stopped = [name for name, state in found.components.items() if state != "up"]
    if stopped:
        typer.echo(f"not running: {', '.join(stopped)}")
