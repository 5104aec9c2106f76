"""A desk that takes events for the broker, and an event for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from upstream_documents import shopify_order
from vendor_posts import shopify

from consumers.public.event_desk import EventDesk
from pipeline.adapters.mapping import Adapted, load_adapter
from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.settings import AmqpSettings, WebhookSettings


def order(number: int = 1) -> Adapted:
    headers, body = shopify(shopify_order(id=number), webhook_id=f"w-{number}")
    [adapted] = load_adapter("shopify").adapt_each(body, headers)
    return adapted


@asynccontextmanager
async def desk_of(amqp: AmqpSettings, **changes: object) -> AsyncIterator[EventDesk]:
    crashes: list[object] = []
    desk = EventDesk(
        amqp,
        WebhookSettings(**changes),
        clock=SystemClock(),
        tasks=Tasks(lambda *crash: crashes.append(crash)),
    )
    try:
        yield desk
        await desk.drain()
    finally:
        await desk.stop()
    assert crashes == []
