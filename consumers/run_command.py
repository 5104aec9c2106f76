"""`postorder run`: the pipeline, alone or as workers under a supervisor."""

from pathlib import Path
from typing import Annotated

import typer

from consumers.command import ConfigOption, config_path, find_shard_in, run_async, settings_from
from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.settings import Settings


def run(
    only: Annotated[
        str,
        typer.Option(
            help="Comma-separated: order-processed, invoice-generated, customer-updated, notifications, "
            "public, api."
        ),
    ] = "",
    workers: Annotated[
        str, typer.Option(help="Processes under a supervisor: a number, or auto, within section [allocator].")
    ] = "1",
    config: ConfigOption = None,
) -> None:
    """Run the pipeline until SIGTERM or Ctrl-C; a second signal stops it at once."""
    roles = _roles(only)
    settings = settings_from(config)
    if workers != "1":
        raise typer.Exit(_supervised(settings, roles, config_path(config), workers))
    from consumers.bootstrap import Process  # noqa: PLC0415  # a supervisor loads none of the pipeline

    async def process() -> int:
        return await Process(settings, roles, find_shard_in(config_path(config))).run()

    raise typer.Exit(run_async(process()))


def _supervised(settings: Settings, roles: frozenset[Role], config: Path, workers: str) -> int:
    from consumers.allocator.run import SupervisorProcess, wanted_workers  # noqa: PLC0415  # of few processes

    count = wanted_workers(workers)

    async def supervise() -> int:
        return await SupervisorProcess(settings, roles, config, count).run()

    return run_async(supervise())


def _roles(only: str) -> frozenset[Role]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(Role)]
    if unknown:
        raise SettingsError([f"--only: {name} is no role: choose from {', '.join(Role)}" for name in unknown])
    return frozenset(Role(name) for name in names) or frozenset(Role)
