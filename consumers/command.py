"""What every command begins with: its settings, and a loop to run on."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import structlog
import typer
import uvloop

from pipeline.errors import SettingsError
from pipeline.observability.logging import configure_logging
from pipeline.settings import Settings, ShardSettings, load_settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

DEFAULT_CONFIG = Path("postorder.toml")
STACK_FOLDER = Path("var/stack")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="POSTORDER_CONFIG",
        help="Settings file. Default: ./postorder.toml, else the local stack's.",
    ),
]


def config_path(config: Path | None) -> Path:
    """Return the settings file of a command. Raises SettingsError when there is none."""
    stack_config = STACK_FOLDER / DEFAULT_CONFIG
    if config is None:
        config = next((path for path in (DEFAULT_CONFIG, stack_config) if path.exists()), None)
    if config is None:
        raise SettingsError(
            ["no settings: write a postorder.toml, name one by --config, or run `postorder stack up`"]
        )
    return config


def settings_from(config: Path | None) -> Settings:
    """Read the settings of a command and set logging up by them."""
    settings = load_settings(config_path(config))
    configure_logging(settings.ops.log_level, settings.ops.log_format)
    return settings


def find_shard_in(config: Path) -> Callable[[str], ShardSettings | None]:
    """Return a function that looks a shard up in the settings file as it is by then."""

    def find_shard(name: str) -> ShardSettings | None:
        try:
            settings = load_settings(config)
        except SettingsError as error:
            log.warning("settings.unreadable", problems=error.problems)
            return None
        return next((shard for shard in settings.shards if shard.name == name), None)

    return find_shard


def tell_missing(missing: Mapping[str, str]) -> None:
    """Say which shards did not answer, and why. Raises typer.Exit, status 1, when there are any."""
    for shard, why in missing.items():
        typer.echo(f"postorder: what is on {shard} is missing: {why}", err=True)
    if missing:
        raise typer.Exit(1)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
