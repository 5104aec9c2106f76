"""`postorder shards`: look at the shard map, and change it while events flow."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any

import typer

from consumers import resharding
from consumers.audited import on_record
from consumers.command import ConfigOption, config_path, run_async, settings_from, tell_missing
from consumers.settings_file import make_replica_primary
from consumers.shards_plan_commands import (
    JsonOption,
    NameArgument,
    SlotsOption,
    TargetOption,
    plan_app,
    print_json,
    quiet_settings,
    slots_of_option,
)
from consumers.shards_report import ProgressLines, print_estimate, print_moves, print_show, shard_views
from consumers.tables import standard_output
from pipeline.errors import SettingsError
from pipeline.observability.resharding_metrics import ReshardingMetrics
from pipeline.resharding.metered import metered
from pipeline.resharding.planning import planned_add, planned_move, planned_remove
from pipeline.resharding.progress import Report
from pipeline.resharding.tally import Outcome
from pipeline.resharding.throttle import Limits
from pipeline.resharding.verification import Verification, verify
from pipeline.settings import Settings
from pipeline.storage.promotion import promote as promote_replica

INTERRUPTED = 130
_LIMITS = Limits()

shards_app = typer.Typer(help="The shard map, and moving slots between shards.", no_args_is_help=True)
shards_app.add_typer(plan_app, name="plan")

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
FinishOption = Annotated[
    bool, typer.Option("--finish", help="Give up the way back at once, and delete the moved rows.")
]
LagOption = Annotated[
    float, typer.Option(min=0.1, help="Wait while a replica is further behind than this, in s.")
]
PauseOption = Annotated[
    float, typer.Option(min=0.05, max=10, help="Take no writes of a group for longer than this, in s.")
]
MetricsOption = Annotated[
    int, typer.Option(min=0, max=65535, help="Serve Prometheus metrics of the change here; 0: nowhere.")
]


@shards_app.command()
def show(as_json: JsonOption = False, config: ConfigOption = None) -> None:  # noqa: FBT002
    """Show the map: epoch, each shard's slots, rows and lag, and moves in progress."""
    views = run_async(shard_views(quiet_settings(config)))
    print_json(views) if as_json else print_show(views, standard_output())
    tell_missing(views.away)


@shards_app.command()
def add(  # noqa: PLR0917  # options of a command
    name: NameArgument,
    yes: YesOption = False,  # noqa: FBT002
    finish: FinishOption = False,  # noqa: FBT002
    lag_s_max: LagOption = _LIMITS.lag_s_max,
    pause_s_max: PauseOption = _LIMITS.pause_s_max,
    metrics_port: MetricsOption = 0,
    config: ConfigOption = None,
) -> None:
    """Give a shard of the settings that owns nothing its share of the slots, from the others."""
    limits = Limits(lag_s_max=lag_s_max, pause_s_max=pause_s_max)
    _change(
        settings_from(config),
        f"add {name}",
        lambda cluster: planned_add(cluster, name),
        limits,
        metrics_port,
        yes=yes,
        finish=finish,
    )


@shards_app.command()
def remove(  # noqa: PLR0917  # as above
    name: NameArgument,
    yes: YesOption = False,  # noqa: FBT002
    finish: FinishOption = False,  # noqa: FBT002
    lag_s_max: LagOption = _LIMITS.lag_s_max,
    pause_s_max: PauseOption = _LIMITS.pause_s_max,
    metrics_port: MetricsOption = 0,
    config: ConfigOption = None,
) -> None:
    """Give all slots of a shard to the others. Afterwards it can go from the settings."""
    limits = Limits(lag_s_max=lag_s_max, pause_s_max=pause_s_max)
    _change(
        settings_from(config),
        f"remove {name}",
        lambda cluster: planned_remove(cluster, name),
        limits,
        metrics_port,
        yes=yes,
        finish=finish,
    )


@shards_app.command()
def move(  # noqa: PLR0917  # as above
    slots: SlotsOption,
    to: TargetOption,
    yes: YesOption = False,  # noqa: FBT002
    finish: FinishOption = False,  # noqa: FBT002
    lag_s_max: LagOption = _LIMITS.lag_s_max,
    pause_s_max: PauseOption = _LIMITS.pause_s_max,
    metrics_port: MetricsOption = 0,
    config: ConfigOption = None,
) -> None:
    """Move chosen slots to another shard that owns some already."""
    wanted = slots_of_option(slots)
    limits = Limits(lag_s_max=lag_s_max, pause_s_max=pause_s_max)
    _change(
        settings_from(config),
        f"move {slots} to {to}",
        lambda cluster: planned_move(cluster, wanted, to),
        limits,
        metrics_port,
        yes=yes,
        finish=finish,
    )


@shards_app.command("verify")
def verify_command(as_json: JsonOption = False, config: ConfigOption = None) -> None:  # noqa: FBT002
    """Check owners, maps, links, and that each row is where it belongs. Exits with 1 when one is not."""
    found = run_async(_verify(quiet_settings(config)))
    if as_json:
        print_json(found)
    else:
        for problem in found.problems:
            typer.echo(problem)
        for line in found.moving:
            typer.echo(f"in progress: {line}")
        typer.echo(f"epoch {found.epoch}: {'all is as it should be' if found.is_clean else 'see above'}")
        typer.echo(f"compared: {found.compared}")
    raise typer.Exit(0 if found.is_clean else 1)


@shards_app.command()
def status(as_json: JsonOption = False, config: ConfigOption = None) -> None:  # noqa: FBT002
    """Show the moves in progress, and how far each is."""
    views = run_async(shard_views(quiet_settings(config), sizes=False))
    print_json(views.moves) if as_json else print_moves(views.moves, standard_output())
    tell_missing(views.away)


@shards_app.command()
def finish(metrics_port: MetricsOption = 0, config: ConfigOption = None) -> None:
    """End a change whose slots have all moved: drop the way back, delete what the old shards still have."""
    settings = settings_from(config)
    _run(settings, "finish", resharding.finished(settings, Limits(), _report(settings, metrics_port)))


@shards_app.command()
def resume(
    forward: Annotated[bool, typer.Option("--forward", help="Also when it was being aborted.")] = False,  # noqa: FBT002
    metrics_port: MetricsOption = 0,
    config: ConfigOption = None,
) -> None:
    """Go on with a change that was interrupted. Whoever still runs it can change nothing from then on."""
    settings = settings_from(config)
    work = resharding.resumed(settings, Limits(), _report(settings, metrics_port), forward=forward)
    _run(settings, "resume --forward" if forward else "resume", work)


@shards_app.command()
def abort(metrics_port: MetricsOption = 0, config: ConfigOption = None) -> None:
    """Bring the slots of a change that is not finished back, and leave nothing of it behind."""
    settings = settings_from(config)
    _run(settings, "abort", resharding.aborted(settings, Limits(), _report(settings, metrics_port)))


@shards_app.command()
def promote(
    name: NameArgument,
    primary_is_dead: Annotated[  # noqa: FBT002
        bool, typer.Option("--primary-is-dead", help="It does not answer, and you know that it is down.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Make a shard's replica its primary by hand, where no failover engine does it."""
    settings = settings_from(config)
    shard = next((shard for shard in settings.shards if shard.name == name), None)
    if shard is None:
        raise SettingsError([f"unknown shard {name}: it is not under [[shards]]"])
    promotion = partial(promote_replica, shard, settings.storage, primary_is_dead=primary_is_dead)
    # Of a lone shard whose primary is dead nothing can be recorded, and it has to be done all the same.
    done = run_async(on_record(settings, "shards.promote", name, promotion, must=False))
    make_replica_primary(config_path(config), name)
    fenced = "fenced" if done.fenced else "not reached"
    typer.echo(
        f"{done.shard}: {done.primary} is the primary, on timeline {done.timeline}; the old one was "
        f"{fenced}; "
        "restart every process that runs with the old settings"
    )


# --- running ------------------------------------------------------------------------------------------


def _change(
    settings: Settings,
    what: str,
    plan: resharding.Plan,
    limits: Limits,
    metrics_port: int,
    *,
    yes: bool,
    finish: bool,
) -> None:
    if not yes:
        print_estimate(run_async(resharding.planned(settings, plan)), standard_output())
        typer.confirm("Begin?", abort=True)
    report = _report(settings, metrics_port)
    work = resharding.carry_out(settings, plan, limits, report, finish=finish)
    outcome = _run(settings, what, work)
    end = "" if finish else "; the way back is open: `postorder shards finish`, or abort"
    typer.echo(f"{outcome.slots} slots moved, {outcome.differences}{end}")


def _report(settings: Settings, metrics_port: int) -> Report:
    lines = ProgressLines(standard_output())
    if not metrics_port:
        return lines
    metrics = ReshardingMetrics()
    metrics.serve(settings.ops.metrics_host, metrics_port)
    return metered(lines, metrics)


def _run(settings: Settings, what: str, work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run a change, on record. Ctrl-C ends it where it can be resumed, and says how."""
    try:
        outcome = run_async(on_record(settings, "shards.change", what, lambda: work, told=_slots_of))
    except (KeyboardInterrupt, asyncio.CancelledError):
        if run_async(resharding.is_in_progress(settings)):
            typer.echo(
                "interrupted: `postorder shards resume` goes on, `postorder shards abort` goes back", err=True
            )
        raise typer.Exit(INTERRUPTED) from None
    finally:
        work.close()  # of which nothing was done when it could not be recorded
    if outcome.slots:
        typer.echo(f"longest pause of a group: {outcome.stall_ms_max:g} ms")
    return outcome


def _slots_of(outcome: Outcome) -> str:
    return f"{outcome.slots} slots"


async def _verify(settings: Settings) -> Verification:
    async with resharding.opened(settings) as cluster:
        return await verify(cluster)
