"""`postorder shards plan`: what a change would move. Changes nothing."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from consumers import resharding
from consumers.command import ConfigOption, run_async, settings_from
from consumers.shards_report import print_estimate
from consumers.tables import standard_output
from pipeline.errors import ReshardingError, SettingsError
from pipeline.observability.logging import configure_logging
from pipeline.resharding.planning import (
    Estimate,
    as_ranges,
    parse_slots,
    planned_add,
    planned_move,
    planned_remove,
)
from pipeline.settings import Settings

plan_app = typer.Typer(help="What a change would move; nothing is changed.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="A shard of the settings.")]
SlotsOption = Annotated[str, typer.Option(help="Such as 0-15,99.")]
TargetOption = Annotated[str, typer.Option("--to", help="The shard they are to go to.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@plan_app.command("add")
def plan_add(name: NameArgument, as_json: JsonOption = False, config: ConfigOption = None) -> None:  # noqa: FBT002
    """Say what `shards add` would move."""
    _show_plan(quiet_settings(config), lambda cluster: planned_add(cluster, name), as_json=as_json)


@plan_app.command("remove")
def plan_remove(name: NameArgument, as_json: JsonOption = False, config: ConfigOption = None) -> None:  # noqa: FBT002
    """Say what `shards remove` would move."""
    _show_plan(quiet_settings(config), lambda cluster: planned_remove(cluster, name), as_json=as_json)


@plan_app.command("move")
def plan_move(
    slots: SlotsOption,
    to: TargetOption,
    as_json: JsonOption = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Say what `shards move` would move."""
    wanted = slots_of_option(slots)
    _show_plan(quiet_settings(config), lambda cluster: planned_move(cluster, wanted, to), as_json=as_json)


def slots_of_option(text: str) -> list[int]:
    """Return the slots of `--slots`. Raises SettingsError where there are no such slots."""
    try:
        return parse_slots(text)
    except ReshardingError as error:
        raise SettingsError([f"--slots: {error}"]) from error


def _show_plan(settings: Settings, plan: resharding.Plan, *, as_json: bool) -> None:
    found = run_async(resharding.planned(settings, plan))
    print_json(_as_json(found)) if as_json else print_estimate(found, standard_output())


def _as_json(found: Estimate) -> dict[str, object]:
    pairs = [{**msgspec.structs.asdict(pair), "slots": as_ranges(pair.slots)} for pair in found.pairs]
    return {
        "epoch": found.epoch,
        "slots": found.slots,
        "share": round(found.share, 4),
        "seconds": round(found.seconds, 1),
        "pairs": pairs,
    }


def quiet_settings(config: Path | None) -> Settings:
    """Read the settings of a command that only shows something: what is ordinary is not logged."""
    settings = settings_from(config)
    if settings.ops.log_level == "info":
        configure_logging("warning", settings.ops.log_format)
    return settings


def print_json(value: object) -> None:
    """Print a value as JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)))
