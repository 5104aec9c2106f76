"""A process that begins while a shard is away does the work of the other shards, and that shard's later."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from forwarding import forwarding
from real_stack import Bench, order_event

from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key
from stack.ports import HOST, choose_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ORDERS = 20


def orders() -> list[dict[str, Any]]:
    people = [
        {"name": "Ada", "phone": f"+141555501{number}", "email": f"ada-{number}@example.com"}
        for number in range(10, 10 + ORDERS)
    ]
    return [order_event(f"o-{number}", customer=person) for number, person in enumerate(people)]


def sent_without(bench: Bench, away: str, events: list[dict[str, Any]]) -> dict[Channel, int]:
    """How many messages need nothing of a shard: neither their order lives there nor who gets them."""
    found = dict.fromkeys(Channel, 0)
    for event in events:
        customer = event["data"]["customer"]
        for channel, address in ((Channel.SMS, customer["phone"]), (Channel.EMAIL, customer["email"])):
            shards = {
                bench.cluster.router.place(event["data"]["order_id"])[0],
                bench.cluster.router.shard_of(recipient_key(channel, address).slot),
            }
            found[channel] += away not in shards
    return found


async def test_a_shard_that_is_away_at_the_start_holds_no_other_up(bench: Bench, run_pipeline) -> None:
    port = choose_port("management", set())
    address = urlsplit(bench.stack.shards[1].primary_dsn)
    assert address.port is not None
    elsewhere = urlunsplit(address._replace(netloc=f"{address.username}@{HOST}:{port}"))
    events = orders()
    expected = sent_without(bench, "shard1", events)
    assert all(0 < messages < ORDERS for messages in expected.values())
    with run_pipeline(notifications_grace_window_s="0", shard_shard1_primary=elsewhere) as process:
        await bench.publish(*events)

        async def others_are_sent() -> bool:
            sms, mails = len(await bench.sms()), len(await bench.mails())
            return (sms, mails) == (expected[Channel.SMS], expected[Channel.EMAIL])

        await bench.until(others_are_sent, "what needs nothing of that shard is sent")
        async with forwarding(port, address.port):
            status = await bench.until_quiet(ORDERS, timeout_s=60)
    assert process.exit_status == 0
    assert status.totals["orders"] == ORDERS
    assert status.accounting.balances
    assert len(await bench.sms()) == len(await bench.mails()) == ORDERS
    assert "Traceback" not in process.log.read_text()
