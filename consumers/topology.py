"""What the broker must have: exchanges, quorum queues, the retry ladder. Declared once, at deployment.

    publisher → orders.direct ─ order.processed, invoice.generated, customer.updated → the same three queues
                     └ no route ↓
    publisher → orders (topic) ─ order.processed.#   → order-processed   ┐
                     │         ─ invoice.generated.# → invoice-generated ┼→ (dead) orders.dead → dead-letters
                     │         ─ customer.updated.#  → customer-updated  ┘
                     └ no route → orders.unroutable → unroutable
    retry later → orders.retry.5s (fanout) → retry.5s ─ after 5 s → orders.return (topic) → its queue again

Consumers declare nothing: they look the queues up, so that a difference shows as one clear error.
"""

from typing import Any

import msgspec
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelPreconditionFailed

from pipeline.errors import TopologyError

EXCHANGE = "orders"
# Takes what `orders` takes. The broker finds a plain key's queue in 12 µs less than by matching patterns, of
# the 57 µs that a message costs it; a key that is not plain goes on to `orders`.
DIRECT_EXCHANGE = "orders.direct"
UNROUTABLE = "orders.unroutable"
DEAD = "orders.dead"
RETURN = "orders.return"

ORDER_QUEUE = "order-processed"
INVOICE_QUEUE = "invoice-generated"
CUSTOMER_QUEUE = "customer-updated"
UNROUTABLE_QUEUE = "unroutable"
DEAD_QUEUE = "dead-letters"

RETRY_LADDER_S = (1, 5, 30, 300)
DELIVERY_LIMIT = 20
# As good as none, for queues behind which there is nothing. A queue without one has no limit before RabbitMQ
# 4.0, and from then on one of 20, after which the message is dropped; every version takes this number.
DELIVERY_LIMIT_MAX = 2**31 - 1
QUEUE_MESSAGES_MAX = 20_000_000

PLAIN_KEYS = {
    ORDER_QUEUE: "order.processed",
    INVOICE_QUEUE: "invoice.generated",
    CUSTOMER_QUEUE: "customer.updated",
}
WORK_QUEUES = {queue: f"{key}.#" for queue, key in PLAIN_KEYS.items()}


class QueueDepth(msgspec.Struct, frozen=True):
    """What a queue holds ready for delivery, and how many consumers it has."""

    name: str
    messages: int
    consumers: int


def queue_names() -> list[str]:
    """Return every queue of the topology."""
    return [*WORK_QUEUES, DEAD_QUEUE, UNROUTABLE_QUEUE, *(f"retry.{s}s" for s in RETRY_LADDER_S)]


async def apply_topology(channel: AbstractChannel) -> list[str]:
    """Declare everything; what is there already is left as it is. Returns the names of the queues.

    Raises TopologyError when something exists with other arguments.
    """
    try:
        await _declare(channel)
    except ChannelPreconditionFailed as error:
        raise TopologyError(f"{error}: see docs/how-to/replace-a-queue.md") from error
    return queue_names()


async def _declare(channel: AbstractChannel) -> None:
    unroutable = await channel.declare_exchange(UNROUTABLE, ExchangeType.FANOUT, durable=True)
    dead = await channel.declare_exchange(DEAD, ExchangeType.FANOUT, durable=True)
    back = await channel.declare_exchange(RETURN, ExchangeType.TOPIC, durable=True)
    orders = await channel.declare_exchange(
        EXCHANGE, ExchangeType.TOPIC, durable=True, arguments={"alternate-exchange": UNROUTABLE}
    )
    direct = await channel.declare_exchange(
        DIRECT_EXCHANGE, ExchangeType.DIRECT, durable=True, arguments={"alternate-exchange": EXCHANGE}
    )
    for name, exchange in ((UNROUTABLE_QUEUE, unroutable), (DEAD_QUEUE, dead)):
        arguments = _quorum(delivery_limit=DELIVERY_LIMIT_MAX)
        queue = await channel.declare_queue(name, durable=True, arguments=arguments)
        await queue.bind(exchange)
        await queue.bind(back, routing_key=f"{name}.#")
    for name, routing_key in WORK_QUEUES.items():
        queue = await channel.declare_queue(name, durable=True, arguments=_quorum(dead_letter_exchange=DEAD))
        await queue.bind(orders, routing_key=routing_key)
        await queue.bind(direct, routing_key=PLAIN_KEYS[name])
        await queue.bind(back, routing_key=f"{name}.#")
    for delay_s in RETRY_LADDER_S:
        rung = await channel.declare_exchange(retry_exchange(delay_s), ExchangeType.FANOUT, durable=True)
        # A message keeps its routing key, which begins with the queue it came from, so it returns there.
        arguments = _quorum(
            dead_letter_exchange=RETURN, message_ttl_ms=delay_s * 1000, delivery_limit=DELIVERY_LIMIT_MAX
        )
        queue = await channel.declare_queue(f"retry.{delay_s}s", durable=True, arguments=arguments)
        await queue.bind(rung)


async def queue_depths(channel: AbstractChannel) -> list[QueueDepth]:
    """Return the depth of every queue. Raises aio_pika's ChannelNotFoundEntity when one is missing."""
    depths = []
    for name in queue_names():
        found = (await channel.declare_queue(name, passive=True)).declaration_result
        depths.append(QueueDepth(name, found.message_count or 0, found.consumer_count or 0))
    return depths


def retry_exchange(delay_s: int) -> str:
    """Return the exchange of a rung of the ladder."""
    return f"{EXCHANGE}.retry.{delay_s}s"


def _quorum(
    *,
    dead_letter_exchange: str | None = None,
    message_ttl_ms: int | None = None,
    delivery_limit: int = DELIVERY_LIMIT,
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-max-length": QUEUE_MESSAGES_MAX,
        "x-overflow": "reject-publish",
        "x-delivery-limit": delivery_limit,
    }
    if dead_letter_exchange:
        arguments["x-dead-letter-exchange"] = dead_letter_exchange
        arguments["x-dead-letter-strategy"] = "at-least-once"
    if message_ttl_ms:
        arguments["x-message-ttl"] = message_ttl_ms
    return arguments
