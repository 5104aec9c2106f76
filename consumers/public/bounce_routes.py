"""Bounces, as a mail server or a relay's webhook hands them over: one report a request."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final

from litestar import post
from litestar.handlers import HTTPRouteHandler

from consumers.web.requests import MESSAGE, AnyRequest, Patience, Refused, media_type_of
from pipeline.notifications.callbacks.replays import Replays
from pipeline.notifications.callbacks.webhook_signature import WebhookSignatures

_REPORT: Final = "multipart/report"
_FORBIDDEN, _CONFLICT = 403, 409

TakeBounce = Callable[[bytes], Awaitable[object]]
"""Takes a delivery status notification, a whole mail; durable on return. Raises retryable errors."""


def bounce_routes(
    signatures: WebhookSignatures, take: TakeBounce, replays: Replays, patience: Patience, *, bytes_max: int
) -> list[HTTPRouteHandler]:
    """Return the route. What is no bounce, or none of our mails, is taken and changes nothing."""

    @post("/mail/bounces", status_code=204, request_max_body_size=bytes_max)
    async def take_bounce(request: AnyRequest) -> None:
        media_type_of(request, MESSAGE, _REPORT)
        body = await request.body()
        webhook_id = request.headers.get("webhook-id", "")
        if not signatures.is_genuine(
            webhook_id=webhook_id,
            timestamp=request.headers.get("webhook-timestamp", ""),
            signature=request.headers.get("webhook-signature", ""),
            body=body,
        ):
            raise Refused(_FORBIDDEN)
        digest = sha256(body).digest()
        before = replays.find(webhook_id)
        if before is None:
            await patience.wait_for(take(body))
            replays.keep(webhook_id, digest)
        elif before != digest:
            raise Refused(_CONFLICT)

    return [take_bounce]
