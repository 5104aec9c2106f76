"""A process that begins while a primary is away does the work of the other shards, and that one's later."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from forwarding import forwarding
from real_stack import Bench, order_event

from pipeline.clock import SystemClock
from pipeline.notifications.rules.recipients import Recipients
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key
from pipeline.storage.standing import RecipientState, Said
from stack.ports import HOST, choose_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ORDERS = 20


def orders() -> list[dict[str, Any]]:
    people = [
        {"name": "Ada", "phone": f"+141555501{number}", "email": f"ada-{number}@example.com"}
        for number in range(10, 10 + ORDERS)
    ]
    return [order_event(f"o-{number}", customer=person) for number, person in enumerate(people)]


def at_home(bench: Bench, channel: Channel, shard: str, event: dict[str, Any]) -> bool:
    """Whether it is that shard that knows if the event's customer wants messages."""
    customer = event["data"]["customer"]
    address = customer["phone"] if channel is Channel.SMS else customer["email"]
    return bench.cluster.router.shard_of(recipient_key(channel, address).slot) == shard


async def test_a_shard_that_is_away_at_the_start_holds_no_other_up(bench: Bench, run_pipeline) -> None:
    port = choose_port("management", set())
    address = urlsplit(bench.stack.shards[1].primary_dsn)
    assert address.port is not None
    elsewhere = urlunsplit(address._replace(netloc=f"{address.username}@{HOST}:{port}"))
    events = orders()
    here = [event for event in events if bench.cluster.router.place(event["data"]["order_id"])[0] == "shard0"]
    # One of these has said STOP: only the shard that is away knows.
    stopped = next(event for event in here if at_home(bench, Channel.SMS, "shard1", event))
    number = stopped["data"]["customer"]["phone"]
    recipients = Recipients(bench.cluster, clock=SystemClock())
    await recipients.set(Channel.SMS, number, Said(RecipientState.OUT, "STOP"))
    with run_pipeline(notifications_grace_window_s="0", shard_shard1_primary=elsewhere) as process:
        await bench.publish(*events)

        async def others_are_sent() -> bool:
            return (len(await bench.sms()), len(await bench.mails())) == (len(here) - 1, len(here))

        await bench.until(others_are_sent, "all messages of the other shard's orders are sent")
        async with forwarding(port, address.port):
            status = await bench.until_quiet(ORDERS, timeout_s=60)
    assert process.exit_status == 0
    assert status.totals["orders"] == ORDERS
    assert status.accounting.balances
    assert (len(await bench.sms()), len(await bench.mails())) == (ORDERS - 1, ORDERS)
    assert number not in {message["to"] for message in await bench.sms()}
    assert "recipients.by_replica" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()
