"""What relays report as JSON: SendGrid's signed events, and Amazon SES by way of an SNS topic."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from litestar import post
from litestar.handlers import HTTPRouteHandler

from consumers.web.requests import JSON, TEXT, AnyRequest, Patience, Refused, media_type_of
from pipeline.notifications.callbacks.relay_events import read_sendgrid, read_ses
from pipeline.notifications.callbacks.sendgrid_signature import SendGridSignatures
from pipeline.notifications.callbacks.sns import SnsTopics
from pipeline.notifications.mail.bounces import Bounce

__all__ = ["SendGridSignatures", "SnsTopics", "sendgrid_route", "ses_route"]

log = structlog.get_logger(__name__)

_FORBIDDEN: Final = 403
_SENDGRID: Final = "x-twilio-email-event-webhook"

TakeReports = Callable[[Sequence[Bounce]], Awaitable[object]]
"""Takes what was reported of mails; durable on return. Raises retryable errors."""


def sendgrid_route(
    signatures: SendGridSignatures,
    take: TakeReports,
    domains: frozenset[str],
    patience: Patience,
    *,
    bytes_max: int,
) -> HTTPRouteHandler:
    """Return the route. `domains`: of our Message-IDs. What is about none of our mails changes nothing."""

    @post("/mail/events/sendgrid", status_code=204, request_max_body_size=bytes_max)
    async def take_events(request: AnyRequest) -> None:
        media_type_of(request, JSON)
        body = await request.body()
        if not signatures.is_genuine(
            timestamp=request.headers.get(f"{_SENDGRID}-timestamp", ""),
            signature=request.headers.get(f"{_SENDGRID}-signature", ""),
            body=body,
        ):
            raise Refused(_FORBIDDEN)
        await patience.wait_for(take(read_sendgrid(body, domains)))

    return take_events


def ses_route(
    topics: SnsTopics, take: TakeReports, domains: frozenset[str], patience: Patience, *, bytes_max: int
) -> HTTPRouteHandler:
    """Return the route. A topic of the settings is subscribed to when it asks; see `sendgrid_route`."""

    async def take_in(body: bytes) -> None:
        message = await topics.genuine(body)
        if message is None:
            raise Refused(_FORBIDDEN)
        if message.type == "SubscriptionConfirmation":
            await topics.confirm(message)
            log.info("sns.subscribed", topic=message.topic_arn)
        elif message.type == "Notification":
            await take(read_ses(message.message.encode(), domains))

    @post("/mail/events/ses", status_code=204, request_max_body_size=bytes_max)
    async def take_message(request: AnyRequest) -> None:
        media_type_of(request, TEXT, JSON)
        await patience.wait_for(take_in(await request.body()))

    return take_message
