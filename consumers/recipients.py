"""What `postorder recipients` and the API share: recipients as they are given, and as they are shown."""

from contextlib import suppress
from datetime import datetime

import msgspec

from pipeline.errors import RecipientRefusedError
from pipeline.notifications.mail.address import email_address
from pipeline.notifications.rules.recipients import Recipients
from pipeline.notifications.sms.phone import phone_number
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import RecipientRow, recipient_key
from pipeline.storage.standing import RecipientState, Said


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a recipient gets messages. `state` is null when nobody ever said anything; then it does.

    `recipient_key`: what stands for the number or the address; that itself is never shown.
    """

    channel: Channel
    recipient_key: str
    state: RecipientState | None
    reason: str | None
    changed_at: datetime | None
    messages_today: int


def recipient_of(text: str) -> tuple[Channel, str] | None:
    """Return a channel and what it reaches there; None: it is neither a number in E.164 nor an address."""
    with suppress(RecipientRefusedError):
        if "@" in text:
            return Channel.EMAIL, email_address(text)
        if text.startswith("+"):
            return Channel.SMS, phone_number(text, None)
    return None


async def shown(recipients: Recipients, channel: Channel, address: str) -> Recipient:
    """Return what is known of a recipient."""
    return _shown(channel, address, await recipients.show(channel, address))


async def said(recipients: Recipients, channel: Channel, address: str, state: RecipientState) -> Recipient:
    """Have a recipient get messages or none, on the word of an operator; return what stands then.

    Who also said STOP gets none before that was lifted too: the state says so.
    """
    await recipients.set(channel, address, Said(state, "operator"))
    return await shown(recipients, channel, address)


def _shown(channel: Channel, address: str, row: RecipientRow) -> Recipient:
    return Recipient(
        channel=channel,
        recipient_key=recipient_key(channel, address).key.hex,
        state=row.state,
        reason=row.reason,
        changed_at=row.changed_at,
        messages_today=row.messages_today,
    )
