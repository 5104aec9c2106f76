"""`postorder recipients`: whether a number or an address gets messages, and saying so or otherwise."""

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from consumers.command import ConfigOption, run_async, settings_from
from consumers.resharding import opened
from pipeline.clock import SystemClock
from pipeline.errors import RecipientRefusedError, SettingsError
from pipeline.notifications.mail.address import email_address
from pipeline.notifications.rules.recipients import Recipients
from pipeline.notifications.sms.phone import phone_number
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import RecipientRow, recipient_key
from pipeline.storage.standing import RecipientState, Said

T = TypeVar("T")

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


class Shown(msgspec.Struct, frozen=True):
    """What `--json` prints. `state` is null when nobody ever said anything; then it gets messages."""

    channel: Channel
    recipient_key: str
    state: RecipientState | None
    reason: str | None
    changed_at: datetime | None
    messages_today: int


@recipients_app.command()
def show(
    recipient: RecipientArgument,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Show whether a recipient gets messages, why not, since when, and how many were counted today (UTC)."""
    channel, address = _recipient(recipient)
    row = run_async(_with_recipients(config, lambda recipients: recipients.show(channel, address)))
    shown = Shown(
        channel,
        recipient_key(channel, address).key.hex,
        row.state,
        row.reason,
        row.changed_at,
        row.messages_today,
    )
    typer.echo(msgspec.json.format(msgspec.json.encode(shown)) if as_json else _line(shown, row))


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

    async def say(recipients: Recipients) -> RecipientRow:
        await recipients.set(channel, address, Said(state, "operator"))
        return await recipients.show(channel, address)

    row = run_async(_with_recipients(config, say))
    what = "gets messages from now on" if row.state is RecipientState.IN else "gets nothing from now on"
    if row.state is not state:
        what = f"still gets nothing: it also said {row.reason}; `allow` once more lifts that too"
    typer.echo(f"{channel} recipient {recipient_key(channel, address).key.hex} {what}")


def _line(shown: Shown, row: RecipientRow) -> str:
    says = "nobody said anything: it gets messages"
    if row.state is not None and row.changed_at is not None:
        what = "gets messages" if row.state is RecipientState.IN else "gets nothing"
        says = f"{what}: {row.reason}, {row.changed_at:%Y-%m-%d %H:%M:%S %Z}"
    return f"{shown.channel} recipient {shown.recipient_key}\n{says}\ncounted today: {row.messages_today}"


def _recipient(text: str) -> tuple[Channel, str]:
    """Return a channel and what it reaches there. Raises SettingsError; its text quotes nothing."""
    if text == "-":
        text = sys.stdin.read(_INPUT_CHARS_MAX)
    text = text.strip()
    with suppress(RecipientRefusedError):
        if "@" in text:
            return Channel.EMAIL, email_address(text)
        if text.startswith("+"):
            return Channel.SMS, phone_number(text, None)
    raise SettingsError(["RECIPIENT: must be a number in E.164, for example +4930901820, or an address"])


async def _with_recipients(config: Path | None, act: Callable[[Recipients], Awaitable[T]]) -> T:
    async with opened(settings_from(config)) as cluster:
        return await act(Recipients(cluster, clock=SystemClock()))
