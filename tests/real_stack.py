"""A test's view of the running stack: publish, wait for a condition, read what arrived."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
import aiohttp
import asyncpg
import orjson
from aio_pika.abc import AbstractConnection

from consumers.connection import open_connection
from consumers.migration import apply_to_broker, migrate_all
from consumers.status import Status, read_status
from consumers.topology import EXCHANGE, queue_names
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from stack.status import StackStatus

TABLES = (
    *("inbox", "orders", "invoices", "customers", "consent"),
    *("outbox", "effect_note", "quarantine", "intake_batch", "receipt_batch"),
    *("recipient", "recipient_day", "sms_spend"),
)
PDF = b"%PDF-1.4\n% a small invoice\n%%EOF\n"


def order_event(order_id: str, /, **changes: Any) -> dict[str, Any]:
    """A valid order event; `changes` go into its data."""
    data = {
        "order_id": order_id,
        "currency": "EUR",
        "total": "74.40",
        "processed_at": "2026-11-21T11:15:00+01:00",
        "customer": {
            "id": "c-1",
            "name": "Ada Example",
            "email": f"{order_id}@example.com",
            "phone": "+14155550123",
        },
        "lines": [{"sku": "LP-77", "title": "Blue Train", "quantity": 2, "unit_price": "29.95"}],
    }
    return envelope("order.processed", {**data, **changes})


def invoice_event(order_id: str, /, invoice_id: str = "", **document: Any) -> dict[str, Any]:
    """A valid invoice event; `document` replaces the inline PDF."""
    data = {
        "invoice_id": invoice_id or f"inv-{order_id}",
        "order_id": order_id,
        "currency": "EUR",
        "total": "74.40",
        "issued_at": "2026-11-21T11:15:00+01:00",
        "document": document or {"content_base64": b64encode(PDF).decode(), "filename": "invoice.pdf"},
    }
    return envelope("invoice.generated", data)


def customer_event(customer_id: str, /, **changes: Any) -> dict[str, Any]:
    """A valid customer event; `changes` go into its data."""
    data = {
        "customer_id": customer_id,
        "updated_at": "2026-11-21T11:00:00+01:00",
        "name": "Ada Example",
        "email": f"{customer_id}@example.com",
        "phone": "+14155550123",
    }
    return envelope("customer.updated", {**data, **changes})


def envelope(event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": event_type,
        "source": "/tests",
        "id": uuid4().hex,
        "time": "2026-11-21T10:15:00Z",
        "data": data,
    }


class Bench:
    """Everything a test does to the stack."""

    def __init__(
        self,
        stack: StackStatus,
        settings: Settings,
        cluster: Cluster,
        broker: AbstractConnection,
        http: aiohttp.ClientSession,
    ) -> None:
        self.stack = stack
        self.settings = settings
        self.cluster = cluster
        self.broker = broker
        self._http = http

    # --- acting -----------------------------------------------------------------------------------

    async def publish(
        self, *events: dict[str, Any] | bytes, routing_key: str = "", **properties: Any
    ) -> None:
        """Publish with confirms; bytes go out as they are."""
        channel = await self.broker.channel()
        exchange = await channel.get_exchange(EXCHANGE, ensure=False)
        for event in events:
            body = event if isinstance(event, bytes) else orjson.dumps(event)
            key = routing_key or (event["type"] if isinstance(event, dict) else "order.processed")
            options = {
                "content_type": "application/cloudevents+json",
                "message_id": uuid4().hex,
                **properties,
            }
            message = aio_pika.Message(body, delivery_mode=2, **options)
            await exchange.publish(message, key, timeout=5)
        await channel.close()

    async def twilio(self, path: str, behaviour: Any = None) -> Any:
        return await self._control(self.stack.twilio.api_url, path, behaviour)

    async def smtp(self, path: str, behaviour: Any = None) -> Any:
        return await self._control(self.stack.smtp.api_url, path, behaviour)

    async def _control(self, api_url: str, path: str, body: Any) -> Any:
        method = "GET" if body is None else "POST" if path == "reset" else "PUT"
        async with self._http.request(method, f"{api_url}/{path}", json=body) as answer:
            text = await answer.text()
            assert answer.status == 200, text
            return orjson.loads(text)

    async def execute(self, sql: str, *arguments: Any) -> None:
        """Run a statement on every shard's primary."""
        for shard in self.stack.shards:
            connection = await asyncpg.connect(shard.primary_dsn, timeout=5)
            try:
                await connection.execute(sql, *arguments)
            finally:
                await connection.close()

    async def reconnect(self) -> None:
        """Connect to the broker anew after it was away."""
        self.broker = await open_connection(self.settings.amqp, "tests")

    # --- looking ------------------------------------------------------------------------------------

    async def rows(
        self, sql: str, *arguments: Any, replica: bool = False, shard: str = ""
    ) -> list[dict[str, Any]]:
        """Return the rows of a query over all shards, or over one."""
        found: list[dict[str, Any]] = []
        for endpoints in self.stack.shards:
            if shard not in ("", endpoints.name):
                continue
            dsn = endpoints.replica_dsn if replica else endpoints.primary_dsn
            connection = await asyncpg.connect(dsn, timeout=5)
            try:
                found += [dict(row) for row in await connection.fetch(sql, *arguments)]
            finally:
                await connection.close()
        return found

    async def status(self) -> Status:
        return await read_status(self.settings, self.cluster)

    async def mails(self) -> list[dict[str, Any]]:
        return (await self.smtp("messages?bodies=1&limit=500"))["messages"]

    async def sms(self) -> list[dict[str, Any]]:
        return (await self.twilio("messages?limit=500"))["messages"]

    # --- waiting --------------------------------------------------------------------------------------

    async def until(
        self, condition: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 20.0
    ) -> None:
        """Look until a condition holds; fail, saying what did not happen, when it does not in time."""
        deadline = time.monotonic() + timeout_s
        while not await condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}\n{await self.status()}"
            await asyncio.sleep(0.05)

    async def until_true(self, condition: Callable[[], Awaitable[bool]], timeout_s: float = 20.0) -> None:
        """As `until`, when parts of the stack are away on purpose."""
        async with asyncio.timeout(timeout_s):
            while not await condition():  # noqa: ASYNC110  # the state looked at is a server's
                await asyncio.sleep(0.05)

    async def until_quiet(self, events: int, timeout_s: float = 20.0) -> Status:
        """Wait until so many events are accounted for and no message is open."""

        async def quiet() -> bool:
            status = await self.status()
            return status.accounting.events >= events and status.is_quiet

        await self.until(quiet, f"{events} events settled", timeout_s)
        return await self.status()


async def prepare(settings: Settings) -> None:
    """Make the tables and the queues."""
    await migrate_all(settings)
    await apply_to_broker(settings)


@asynccontextmanager
async def open_bench(
    stack: StackStatus, settings: Settings, *, prepared: bool = False
) -> AsyncIterator[Bench]:
    if not prepared:
        await prepare(settings)
    cluster = Cluster(settings)
    broker = await open_connection(settings.amqp, "tests")
    bench: Bench | None = None
    try:
        for shard in cluster:
            await shard.primary.open()
        await cluster.load_map()
        async with aiohttp.ClientSession() as http:
            bench = Bench(stack, settings, cluster, broker, http)
            await asyncio.gather(*(empty(shard.primary_dsn) for shard in stack.shards))
            channel = await broker.channel()
            for name in queue_names():
                await (await channel.get_queue(name, ensure=False)).purge()
            await bench.twilio("reset", {})
            await bench.smtp("reset", {})
            yield bench
    finally:
        await (bench.broker if bench else broker).close()
        await cluster.close()


async def empty(dsn: str) -> None:
    """Truncate the tables that have ever had a row since they were truncated: most of them had none."""
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        used = [
            row["name"]
            for row in await connection.fetch(
                "SELECT name FROM unnest($1::text[]) AS name WHERE pg_relation_size(name::regclass) > 0",
                TABLES,
            )
        ]
        if used:
            await connection.execute(f"TRUNCATE {', '.join(used)}")
    finally:
        await connection.close()


def parts_of(mail: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the leaves of a mail's part tree."""

    def leaves(part: dict[str, Any]) -> list[dict[str, Any]]:
        children = part.get("parts")
        return [leaf for child in children for leaf in leaves(child)] if children else [part]

    return leaves(mail["parsed"]["part"])


def text_of(mail: dict[str, Any]) -> str:
    """Return the plain text of a mail."""
    return next(part["text"] for part in parts_of(mail) if part["content_type"] == "text/plain")


def attachments_of(mail: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the attachments of a mail."""
    return [part for part in parts_of(mail) if part["disposition"] == "attachment"]
