"""A process that begins while a primary is away does the work of the other shards, and that one's later."""

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from forwarding import forwarding
from real_stack import Bench, order_event
from structlog.testing import capture_logs

from consumers.late_shards import LateShards
from pipeline.clock import SystemClock
from pipeline.errors import (
    PostorderError,
    SchemaVersionError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.recipients import Recipients
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key
from pipeline.storage.shard import Shard
from pipeline.storage.standing import RecipientState, Said
from stack.ports import HOST, choose_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ORDERS = 20


class HurriedClock(SystemClock):
    """Does not wait between attempts."""

    async def sleep(self, delay_s: float) -> None:  # noqa: ARG002
        await asyncio.sleep(0)


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


@pytest.mark.parametrize("error", [StorageUnavailableError, StorageTimeoutError])
async def test_one_that_goes_away_again_while_its_schema_is_looked_at_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: type[PostorderError]
) -> None:
    cluster, crashes = Cluster(bench.settings), []
    primary = cluster["shard1"].primary
    lend, lost = primary.connection, []

    def lose_the_first() -> Any:
        if not lost:
            lost.append(primary.is_open)
            raise error("shard1 primary: away again")
        return lend()

    monkeypatch.setattr(primary, "connection", lose_the_first)
    late = LateShards(cluster, clock=HurriedClock(), tasks=Tasks(lambda *crash: crashes.append(crash)))
    try:
        await cluster["shard0"].primary.open()
        with capture_logs() as logs:
            await late.start()
            async with asyncio.timeout(10):
                await late._tasks.join()
        assert [entry["shard"] for entry in logs if entry["event"] == "shard.opened"] == ["shard1"]
    finally:
        await late.stop()
        await cluster.close()
    assert (crashes, lost) == ([], [True])


async def test_one_of_another_schema_is_not_used_at_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, crashes = Cluster(bench.settings), []

    async def refuse(_shards: list[Shard]) -> None:
        raise SchemaVersionError("shard1 is at schema 0001")

    monkeypatch.setattr("consumers.late_shards.schema_versions", refuse)
    late = LateShards(cluster, clock=HurriedClock(), tasks=Tasks(lambda *crash: crashes.append(crash)))
    try:
        await cluster["shard0"].primary.open()
        await late.start()
        async with asyncio.timeout(10):
            await late._tasks.join()
        assert not cluster["shard1"].primary.is_open
    finally:
        await late.stop()
        await cluster.close()
    assert [type(error) for _, error in crashes] == [SchemaVersionError]
