"""Consent as recipients and operators say it: whether a number or an address gets messages.

Numbers and addresses are in bodies, never in URLs: those are written down by whatever is in between.
"""

from typing import Annotated, Final

import msgspec
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from msgspec import Meta

from consumers.api.access import caller_of
from consumers.api.callers import Access
from consumers.api.routes import needs
from consumers.recipients import Recipient, recipient_of, said, shown
from consumers.web.requests import AnyRequest, Refused
from pipeline.control.audit_log import AuditLog
from pipeline.notifications.rules.recipients import Recipients
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key
from pipeline.storage.standing import RecipientState

_UNPROCESSABLE: Final = 422

Address = Annotated[str, Meta(min_length=1, max_length=320)]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number in E.164 (+4930901820) or an e-mail address."""

    recipient: Address


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a recipient gets from now on: `in`: messages; `out`: none, and a START does not lift it."""

    recipient: Address
    state: RecipientState


def recipient_routes(recipients: Recipients, audit: AuditLog) -> list[HTTPRouteHandler]:
    """Return the routes."""

    @post("/v1/recipients/look-up", status_code=200, **needs(Access.OPERATE, 415, 422))
    async def look_up(data: JSONBody[Asked]) -> Recipient:
        """Return whether a recipient gets messages, and why not."""
        return await shown(recipients, *_known(data.recipient))

    @post("/v1/recipients/say", status_code=200, **needs(Access.OPERATE, 415, 422))
    async def say(request: AnyRequest, data: JSONBody[Wish]) -> Recipient:
        """Have a recipient get messages again, or none. Who also said STOP needs `in` said twice."""
        channel, address = _known(data.recipient)
        target = f"{channel} {recipient_key(channel, address).key.hex}"
        actor = f"api {caller_of(request).subject}"
        async with audit.action(actor, "recipients.say", target, data.state.value):
            return await said(recipients, channel, address, data.state)

    return [look_up, say]


def _known(text: str) -> tuple[Channel, str]:
    found = recipient_of(text.strip())
    if found is None:
        raise Refused(_UNPROCESSABLE, "recipient: is neither a number in E.164 nor an e-mail address")
    return found
