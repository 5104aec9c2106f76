"""Vendors' webhooks: orders and invoices as shops and payment services send them themselves."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import ceil
from typing import Final

import structlog
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from consumers.web.requests import JSON, AnyRequest, Patience, Refused, media_type_of
from pipeline.adapters.mapping import Adapted
from pipeline.adapters.webhook import Webhook
from pipeline.errors import EventError
from pipeline.events import Reason

log = structlog.get_logger(__name__)

_BAD_REQUEST, _UNAUTHORIZED, _NOT_FOUND, _NOT_TAKEN, _TOO_MANY = 400, 401, 404, 422, 429

PublishEvents = Callable[[Sequence[Adapted]], Awaitable[None]]
"""Returns when events are in a queue for good. Raises retryable errors."""

TakeTurn = Callable[[str], float]
"""Takes a turn of a vendor; returns 0, or in how many seconds there is one again."""

_DETAIL_CHARS_MAX: Final = 300
_UNREADABLE: Final = frozenset({Reason.MALFORMED_JSON, Reason.DUPLICATE_KEY})


def webhook_routes(
    webhooks: Mapping[str, Webhook],
    wait_s: TakeTurn,
    publish: PublishEvents,
    patience: Patience,
    *,
    bytes_max: int,
) -> list[HTTPRouteHandler]:
    """Return the route. Nothing is answered with 2xx before the broker has it for good.

    401: not the vendor's. 400, 422: the vendor's, and no order or invoice can be made of it; its log shows
    that, and it sends it again. What is genuine and of a kind that is not taken is answered with 204.
    """

    @post("/webhooks/{vendor:str}", status_code=204, request_max_body_size=bytes_max)
    async def take_webhook(request: AnyRequest, vendor: FromPath[str]) -> None:
        webhook = webhooks.get(vendor)
        if webhook is None:
            raise Refused(_NOT_FOUND)
        media_type_of(request, JSON)
        body = await request.body()
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not webhook.is_genuine(headers, body):
            raise Refused(_UNAUTHORIZED)
        if wait := wait_s(vendor):
            raise Refused(_TOO_MANY, headers={"retry-after": str(ceil(wait))})
        events = _events(webhook, headers, body)
        if events:
            await patience.wait_for(publish(events))

    return [take_webhook]


def _events(webhook: Webhook, headers: Mapping[str, str], body: bytes) -> list[Adapted]:
    try:
        taken = webhook.taken(headers, body)
    except EventError as error:
        log.warning("webhook.refused", vendor=webhook.name, reason=error.reason, detail=error.detail)
        raise Refused(_BAD_REQUEST if error.reason in _UNREADABLE else _NOT_TAKEN) from None
    if not taken.events:
        why = taken.passed_over[0] if taken.passed_over else "it holds nothing"
        log.info("webhook.ignored", vendor=webhook.name, detail=why[:_DETAIL_CHARS_MAX])
    return taken.events
