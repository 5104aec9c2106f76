"""`postorder effects`: the messages of which nobody knows what became, and a person's word about them."""

import re
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from consumers.audited import on_record, operator
from consumers.command import ConfigOption, run_async, settings_from, tell_missing
from consumers.effects import find_effect, list_effects, resolve_effect
from consumers.tables import print_records, standard_output
from consumers.timeline_report import effect_table, entries_of, print_entries, without_contacts
from pipeline.errors import SettingsError
from pipeline.storage.effect_desk import Effect, Wanted
from pipeline.storage.outbox import Channel, Kind, State

effects_app = typer.Typer(help="Messages: look at them, and say what became of one.", no_args_is_help=True)

_ID = re.compile(r"[0-9a-f]{4,32}")
_REASON_CHARS_MAX = 200
_PROVIDER_ID = re.compile(r"[!-~]{1,200}")

IdArgument = Annotated[str, typer.Argument(help="The message's id, or its first digits (at least 4).")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON.")]


@effects_app.command("list")
def list_command(  # noqa: PLR0917  # each is an option
    state: Annotated[State, typer.Option(help="Only this state.")] = State.UNKNOWN,
    channel: Annotated[Channel | None, typer.Option(help="Only this channel.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only this kind.")] = None,
    older_than_s: Annotated[
        float, typer.Option("--older-than-s", min=0, help="Only what was owed at least so long ago.")
    ] = 0.0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: JsonOption = False,  # noqa: FBT002  # typer's form of a flag
    config: ConfigOption = None,
) -> None:
    """List messages, those owed longest ago first. No personal data."""
    wanted = Wanted(state=state, channel=channel, kind=kind, older_than_s=older_than_s)
    found = run_async(list_effects(settings_from(config), wanted, limit))
    if as_json:
        for effect in found.effects:
            typer.echo(msgspec.json.encode(effect))
    else:
        print_effects(found.effects, standard_output())
        if len(found.effects) == limit:
            typer.echo(f"there may be more than these {limit}: see --limit", err=True)
    tell_missing(found.missing)


@effects_app.command()
def show(
    effect_id: IdArgument,
    as_json: JsonOption = False,  # noqa: FBT002  # as above
    config: ConfigOption = None,
) -> None:
    """Show a message with all that happened to it. Its recipient is cut short."""
    found = run_async(find_effect(settings_from(config), _digits(effect_id)))
    story = without_contacts(found.story)
    entries = [entry for entry in entries_of(story) if entry.effect_id in (None, found.effect.effect_id)]
    if as_json:
        shown = {"effect": found.effect, "order": story.order, "entries": entries}
        typer.echo(msgspec.json.format(msgspec.json.encode(shown)))
        return
    console = standard_output()
    console.print(effect_table(found.effect, story.order))
    print_entries(entries, console)


@effects_app.command()
def resolve(  # noqa: PLR0917  # each is an option
    effect_id: IdArgument,
    state: Annotated[State, typer.Option("--as", help="accepted, abandoned, or pending: send it again.")],
    because: Annotated[str, typer.Option(help="How you know; kept with the message. No personal data.")],
    provider_id: Annotated[
        str | None, typer.Option(help="The provider's id of the message, when it was accepted.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002  # as above
    config: ConfigOption = None,
) -> None:
    """Say what became of a message that is unknown. Pending may send it a second time."""
    _check(because, provider_id)
    settings = settings_from(config)
    seen = run_async(find_effect(settings, _digits(effect_id))).effect
    of = f"{seen.kind} of order {_plain(seen.order_id)}"
    typer.echo(f"{seen.effect_id}: {of}, {seen.state} ({seen.reason})")
    if not yes:
        again = " It may then be sent a second time." if state is State.PENDING else ""
        typer.confirm(f"Make it {state}?{again}", abort=True)
    actor = operator()
    run_async(
        on_record(
            settings,
            "effects.resolve",
            str(seen.effect_id),
            lambda: resolve_effect(
                settings, seen, state, provider_id=provider_id, because=because, actor=actor
            ),
            f"{seen.state} to {state}",
        )
    )
    typer.echo(f"{seen.effect_id}: {state}")


def _check(because: str, provider_id: str | None) -> None:
    problems = []
    if not because.strip() or len(because) > _REASON_CHARS_MAX or not because.isprintable():
        problems.append(f"--because: must be a line of 1 to {_REASON_CHARS_MAX} characters")
    if provider_id is not None and not _PROVIDER_ID.fullmatch(provider_id):
        problems.append("--provider-id: must be visible ASCII characters")
    if problems:
        raise SettingsError(problems)


def _digits(text: str) -> str:
    digits = text.lower().replace("-", "")
    if not _ID.fullmatch(digits):
        raise SettingsError([f"{text!r}: an id is 4 to 32 hexadecimal digits"])
    return digits


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def print_effects(effects: list[Effect], console: Console) -> None:
    """Print messages, a record each. Ids are whole: those of one order differ in their last digits alone."""
    names = ("id", "message", "order", "state", "tries", "owed", "reason", "provider id")
    records = (
        (
            effect.effect_id.hex,
            effect.kind,
            escape(_plain(effect.order_id)),
            effect.state,
            str(effect.attempts),
            f"{effect.created_at:%Y-%m-%d %H:%M:%S}",
            escape(_plain(effect.reason or "")),
            escape(_plain(effect.provider_id or "")),
        )
        for effect in effects
    )
    print_records(names, records, console)
