"""Vendors' webhooks through a real broker: confirmed before they are answered, each counted once."""

import asyncio
import socket

import aiohttp
import pytest
from event_desks import desk_of, order
from real_stack import Bench
from upstream_documents import shopify_order, stripe_event
from vendor_posts import SECRETS, shopify, stripe

pytestmark = pytest.mark.integration


async def test_what_is_published_is_in_the_queue(bench: Bench) -> None:
    async with desk_of(bench.settings.amqp) as desk:
        await asyncio.gather(*(desk.publish([order(number)]) for number in range(20)))
        status = await bench.status()
        assert {queue.name: queue.messages for queue in status.queues}["order-processed"] == 20
        assert desk.under_way == 0


async def test_a_webhook_that_is_sent_again_and_again_is_one_order(bench: Bench, run_pipeline) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {f"webhooks_{name}": value for name, value in SECRETS.items()}
    with run_pipeline(
        public_port=str(port),
        public_base_url="https://hooks.shop.example",
        public_secret="s" * 32,
        notifications_grace_window_s="0",
        **variables,
    ) as process:
        base = f"http://127.0.0.1:{port}/webhooks"

        async def listens() -> bool:
            process.check()
            try:
                async with aiohttp.ClientSession() as session, session.get(base):
                    return True
            except aiohttp.ClientError:
                return False

        await bench.until(listens, "the listener is there")
        headers, body = shopify(shopify_order(id=4711))
        async with aiohttp.ClientSession() as session:

            async def post(vendor: str, headers: dict[str, str], body: bytes) -> int:
                async with session.post(f"{base}/{vendor}", headers=headers, data=body) as answer:
                    return answer.status

            statuses = [await post("shopify", headers, body) for _ in range(3)]
            # Captured and sent again under another id, which Shopify does not sign: still the same order.
            statuses.append(await post("shopify", {**headers, "X-Shopify-Webhook-Id": "another"}, body))
            assert statuses == [204] * 4
            assert await post("shopify", headers, body + b" ") == 401
            statuses = [await post("stripe", *stripe(stripe_event(metadata={"order_id": "4711"})))]
            assert statuses == [204]
        await bench.until_quiet(5)
        orders = await bench.rows("SELECT order_id FROM orders")
        assert [row["order_id"] for row in orders] == ["4711"]
        effects = await bench.rows("SELECT channel FROM outbox WHERE kind <> 'invoice_email'")
        assert sorted(row["channel"] for row in effects) == ["email", "sms"]
        status = await bench.status()
        assert status.accounting.balances
