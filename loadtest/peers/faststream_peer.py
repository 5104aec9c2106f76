# ruff: noqa: INP001 - a program with dependencies of its own, no part of the package around it
# mypy: disable-error-code="import-not-found, untyped-decorator"
"""A peer to measure against: Postorder's intake of orders as one would write it with FastStream and asyncpg.

One message is one transaction: the event's identity, the order and its two owed messages, committed before
the ack, in the tables of `migrations/` under the same keys. `--prefetch` messages are worked on at once.

It is no second Postorder: no batches, invoices, quarantine or `intake_batch` row, fewer checks of values, a
repeated identity's payload is not compared, and while a database is away a message goes straight back, until
the delivery limit. A repeat writes nothing: its ack waits for no replica.
"""

import argparse
import logging
import sys
from contextlib import AsyncExitStack
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
import uvloop
from faststream import AckPolicy, FastStream
from faststream.exceptions import RejectMessage
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitMessage, RabbitQueue

QUEUE = RabbitQueue("order-processed", queue_type=QueueType.QUORUM, declare=False)
INSERT_INBOX = "INSERT INTO inbox (slot, event_key, payload_hash) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
INSERT_ORDER = """INSERT INTO orders (slot, order_id, number, customer_id, customer_name, email, phone,
    locale, country, currency, total, lines, processed_at, event_source, event_id, event_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING"""
INSERT_OUTBOX = """INSERT INTO outbox (slot, effect_id, order_id, channel, kind, due_at, expires_at)
VALUES ($1, $2, $4, 'sms', 'order_sms', now(), now() + interval '1 day'),
       ($1, $3, $4, 'email', 'order_email', now() + interval '5 seconds', now() + interval '1 day')
ON CONFLICT DO NOTHING"""

logger = logging.getLogger("faststream_peer")


class Customer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who gets the messages."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    locale: str | None = None
    country: str | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of an order."""

    sku: str
    quantity: int
    unit_price: Decimal
    title: str | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Data of `order.processed`; the order of fields is that of the payload's canonical form."""

    order_id: str
    currency: str
    total: Decimal
    processed_at: datetime
    customer: Customer
    lines: list[Line]
    number: str | None = None


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="order.processed"):
    """A structured CloudEvent."""

    specversion: Literal["1.0"]
    id: str
    source: str
    data: Order
    time: datetime | None = None


async def decode(message: RabbitMessage) -> OrderEvent:
    """Return the event in a message; FastStream itself reads `application/json` only."""
    try:
        return msgspec.json.decode(message.body, type=OrderEvent)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        logger.warning("no order event, to the dead letters: %s", error)
        raise RejectMessage from error


async def store(pools: list[asyncpg.Pool], event: OrderEvent) -> None:
    """Store one event on its order's shard in one transaction; a repeated one changes nothing."""
    order, customer = event.data, event.data.customer
    digest = sha256(order.order_id.encode()).digest()
    slot = int.from_bytes(digest[:8], "big") % 4096
    event_key = UUID(bytes=sha256(f"{event.source}\n{event.id}".encode()).digest()[:16])
    payload_hash = UUID(bytes=sha256(msgspec.json.encode(order)).digest()[:16])
    sms_id, email_id = UUID(bytes=digest[:15] + b"\x01"), UUID(bytes=digest[:15] + b"\x02")
    async with pools[slot % len(pools)].acquire() as connection, connection.transaction():
        if await connection.execute(INSERT_INBOX, slot, event_key, payload_hash) == "INSERT 0 0":
            return
        await connection.execute(
            INSERT_ORDER,
            slot, order.order_id, order.number, customer.id, customer.name, customer.email, customer.phone,
            customer.locale, customer.country, order.currency, order.total,
            msgspec.json.encode(order.lines).decode(), order.processed_at, event.source, event.id, event.time,
        )  # fmt: skip
        await connection.execute(INSERT_OUTBOX, slot, sms_id, email_id, order.order_id)


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM: then no new messages, those begun are committed and acked, and all is closed."""
    async with AsyncExitStack() as stack:
        size = options.connections
        pools = [
            await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=size, max_size=size))
            for dsn in options.primary_dsn
        ]
        channel = Channel(prefetch_count=options.prefetch)
        # DEBUG hides two lines per message; a second check of types, after the decoder's, would cost 50 µs.
        broker = RabbitBroker(
            options.amqp_url, default_channel=channel, log_level=logging.DEBUG, apply_types=False
        )

        @broker.subscriber(QUEUE, ack_policy=AckPolicy.NACK_ON_ERROR, decoder=decode, no_reply=True)
        async def order_processed(event: OrderEvent) -> None:
            await store(pools, event)

        await FastStream(broker).run()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="FastStream and asyncpg, one message to a transaction.")
    parser.add_argument("--amqp-url", required=True)
    parser.add_argument("--primary-dsn", action="append", required=True, help="once for each shard, in order")
    parser.add_argument("--prefetch", type=int, default=200, help="unacknowledged messages at most")
    parser.add_argument("--connections", type=int, default=20, help="connections to each shard")
    try:
        uvloop.run(run(parser.parse_args()))
    except (OSError, asyncpg.PostgresError) as error:
        sys.exit(f"faststream_peer: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
