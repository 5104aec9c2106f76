"""`postorder recipients`: whether a number or an address gets messages, and saying so or otherwise."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from consumers.audited import audited
from consumers.command import ConfigOption, run_async, settings_from
from consumers.recipients import Recipient, recipient_of, said, shown
from consumers.resharding import opened
from pipeline.clock import SystemClock
from pipeline.errors import SettingsError
from pipeline.notifications.rules.recipients import Recipients
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key
from pipeline.storage.standing import RecipientState

recipients_app = typer.Typer(
    help="Numbers and addresses that get nothing any more. They are looked up by a hash; none is shown.",
    no_args_is_help=True,
)

_INPUT_CHARS_MAX = 1000

RecipientArgument = Annotated[
    str,
    typer.Argument(
        help="A number in E.164 (+49…) or an e-mail address; - reads it from standard input, so that it "
        "stands in no list of processes."
    ),
]


@recipients_app.command()
def show(
    recipient: RecipientArgument,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Show whether a recipient gets messages, why not, since when, and how many were counted today (UTC)."""
    channel, address = _recipient(recipient)
    found = run_async(_with_recipients(config, lambda recipients: shown(recipients, channel, address)))
    typer.echo(msgspec.json.format(msgspec.json.encode(found)) if as_json else _line(found))


@recipients_app.command()
def allow(recipient: RecipientArgument, config: ConfigOption = None) -> None:
    """Have a recipient get messages again; one that also said STOP only when said once more."""
    _say(recipient, RecipientState.IN, config)


@recipients_app.command()
def block(recipient: RecipientArgument, config: ConfigOption = None) -> None:
    """Have a recipient get nothing any more, until `allow`; a START does not lift it."""
    _say(recipient, RecipientState.OUT, config)


def _say(recipient: str, state: RecipientState, config: Path | None) -> None:
    channel, address = _recipient(recipient)
    found = run_async(_said(config, channel, address, state))
    what = "gets messages from now on" if found.state is RecipientState.IN else "gets nothing from now on"
    if found.state is not state:
        what = f"still gets nothing: it also said {found.reason}; `allow` once more lifts that too"
    typer.echo(f"{channel} recipient {found.recipient_key} {what}")


def _line(found: Recipient) -> str:
    says = "nobody said anything: it gets messages"
    if found.state is not None and found.changed_at is not None:
        what = "gets messages" if found.state is RecipientState.IN else "gets nothing"
        says = f"{what}: {found.reason}, {found.changed_at:%Y-%m-%d %H:%M:%S %Z}"
    head = f"{found.channel} recipient {found.recipient_key}"
    return f"{head}\n{says}\ncounted today: {found.messages_today}"


def _recipient(text: str) -> tuple[Channel, str]:
    """Return a channel and what it reaches there. Raises SettingsError; its text quotes nothing."""
    if text == "-":
        text = sys.stdin.read(_INPUT_CHARS_MAX)
    found = recipient_of(text.strip())
    if found is None:
        raise SettingsError(["RECIPIENT: must be a number in E.164, for example +4930901820, or an address"])
    return found


async def _said(config: Path | None, channel: Channel, address: str, state: RecipientState) -> Recipient:
    target = f"{channel} {recipient_key(channel, address).key.hex}"
    async with opened(settings_from(config)) as cluster, audited(cluster, "recipients.say", target, state):
        return await said(Recipients(cluster, clock=SystemClock()), channel, address, state)


async def _with_recipients(
    config: Path | None, act: Callable[[Recipients], Awaitable[Recipient]]
) -> Recipient:
    async with opened(settings_from(config)) as cluster:
        return await act(Recipients(cluster, clock=SystemClock()))
