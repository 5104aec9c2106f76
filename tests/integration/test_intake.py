"""Every way to publish, and every reader: each confirmed event ends on its shard or in quarantine."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import orjson
import psutil
import pytest
from real_stack import Bench, invoice_event, order_event

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from consumers.topology import EXCHANGE
from pipeline.settings import Settings
from pipeline.sharding.router import Router
from stack.launcher import StackConfig, up

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
ROUTE = route_of(EXCHANGE, "order.processed", mandatory=True)
READERS = ["lean", "aio-pika"]

# Properties that aio-pika cannot decode: flags, then values. Each kills the connection it is read on.
POISON = {
    "message_id not UTF-8": b"\x00\x80" + b"\x02\xff\xfe",
    "header key not UTF-8": b"\x20\x00" + b"\x00\x00\x00\x09" + b"\x02\xff\xfeS\x00\x00\x00\x01x",
    "timestamp in microseconds": b"\x00\x40" + (1_700_000_000_000_000).to_bytes(8, "big"),
    "app_id not UTF-8": b"\x00\x08" + b"\x01\xff",
}


@asynccontextmanager
async def raw_publisher(settings: Settings) -> AsyncIterator[LeanPublisher]:
    publisher = LeanPublisher(settings.amqp, "tests", 100)
    await publisher.open()
    try:
        yield publisher
    finally:
        await publisher.close()


def with_structured(properties: bytes) -> bytes:
    """Put the content type of a structured event before raw properties."""
    flags = int.from_bytes(properties[:2], "big") | 0x8000
    return flags.to_bytes(2, "big") + bytes([len(STRUCTURED)]) + STRUCTURED.encode() + properties[2:]


@pytest.mark.parametrize("reader", READERS)
async def test_one_bad_member_does_not_spoil_a_batch(bench: Bench, run_pipeline, reader: str) -> None:
    bad = b'{"specversion":"1.0","type":"order.processed",  "source":"/x","id":"bad","data":{}}'
    good = [orjson.dumps(order_event(f"o-{number}")) for number in range(30)]
    invoice = orjson.dumps(invoice_event("o-1"))
    body = b"[" + b" ,\n".join([*good[:15], bad, b"7", *good[15:], invoice, good[0]]) + b"]"
    with run_pipeline(amqp_reader=reader, notifications_grace_window_s="0"):
        await bench.publish(body, routing_key="order.processed", content_type=BATCH)
        await bench.publish(b"[]", routing_key="order.processed", content_type=BATCH)
        await bench.publish(order_event("after"))
        status = await bench.until_quiet(35)
    assert (status.totals["orders"], status.totals["invoices"], status.totals["duplicates"]) == (31, 1, 1)
    held = await bench.rows("SELECT reason, body, content_type FROM quarantine")
    assert {row["body"]: row["reason"] for row in held} == {b"7": "invalid_envelope", bad: "invalid_data"}
    assert {row["content_type"] for row in held} == {STRUCTURED}
    assert status.accounting.balances


@pytest.mark.parametrize("reader", READERS)
async def test_binary_and_plain_publishers(bench: Bench, run_pipeline, reader: str) -> None:
    data = orjson.dumps(order_event("binary")["data"])
    headers = {"ce-specversion": "1.0", "ce-type": "order.processed", "ce-source": "/s", "ce-id": "1"}
    plain = orjson.dumps(order_event("plain")["data"])
    with run_pipeline(amqp_reader=reader, notifications_grace_window_s="0"):
        await bench.publish(data, routing_key="any", content_type="application/json", headers=headers)
        await bench.publish(plain, routing_key="order.processed.eu", content_type="application/json")
        await bench.publish(plain, routing_key="order.processed.eu", content_type="application/json")
        status = await bench.until_quiet(3)
    rows = await bench.rows("SELECT order_id, event_source FROM orders ORDER BY order_id")
    assert [tuple(row.values()) for row in rows] == [("binary", "/s"), ("plain", "urn:postorder:plain")]
    assert status.totals["duplicates"] == 1


async def test_an_event_that_no_queue_wanted_is_stored_all_the_same(bench: Bench, run_pipeline) -> None:
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(order_event("stray"), routing_key="order.processd")
        await bench.publish(b"?", routing_key="nobody")
        status = await bench.until_quiet(2)
    assert (status.totals["orders"], status.totals["quarantined"]) == (1, 1)


@pytest.mark.parametrize("reader", READERS)
async def test_poison_frames_are_isolated(
    bench: Bench, settings: Settings, run_pipeline, reader: str
) -> None:
    """I27: at most five reconnects for each, the neighbours are stored, nothing healthy is dead-lettered."""
    async with raw_publisher(settings) as publisher:
        plain = property_bytes(content_type=STRUCTURED, message_id=uuid4().hex)
        for number in range(20):
            await publisher.publish(ROUTE, plain, orjson.dumps(order_event(f"before-{number}")))
        for kind, (what, poison) in enumerate(POISON.items()):
            await publisher.publish(
                ROUTE, with_structured(poison), orjson.dumps(order_event(f"whole-{kind}"))
            )
            await publisher.publish(ROUTE, poison, f"not an event: {what}".encode())
            for number in range(5):
                await publisher.publish(ROUTE, plain, orjson.dumps(order_event(f"after-{kind}-{number}")))
        await publisher.settled(10)
    with run_pipeline(amqp_reader=reader, notifications_grace_window_s="0") as process:

        async def settled() -> bool:
            totals = (await bench.status()).totals
            return (totals["orders"], totals["quarantined"]) == (20 + 6 * len(POISON), len(POISON))

        # Those before it are delivered again with each connection, so the count of events says nothing.
        await bench.until(settled, "all are stored or held", 40)
        status = await bench.status()
    lost = process.log.read_text().count('"amqp.connection_lost"')
    assert lost <= (2 * 5 * len(POISON) if reader == "aio-pika" else 0)  # two messages of each kind
    # The event in the body is whole: what is wrong with a property nobody reads is no reason to refuse it.
    rows = await bench.rows("SELECT body, reason FROM quarantine")
    assert {row["body"] for row in rows} == {f"not an event: {what}".encode() for what in POISON}
    depths = {queue.name: queue.messages for queue in status.queues}
    assert depths["dead-letters"] == 0


async def test_a_shard_that_is_away_does_not_stop_the_others(
    bench: Bench, stack_folder: Path, run_pipeline
) -> None:
    """I23, I25: its events park; back again, they drain without anyone's help; none is dead-lettered."""
    router = Router(bench.cluster.shard_map)
    names = [f"o-{number}" for number in range(400)]
    there = [name for name in names if router.place(name).shard == "shard1"]
    with run_pipeline(
        notifications_grace_window_s="0", intake_park_after_s="0.5", amqp_prefetch="100"
    ) as process:
        await bench.publish(order_event("first"))
        await bench.until_quiet(1)
        state = up(StackConfig(data_dir=stack_folder), lambda _text: None)
        primary = psutil.Process(state.pids["shard0-primary"])
        primary.kill()
        psutil.wait_procs([primary], timeout=10)
        # Twice the window: if the other shard's events held their places, these could not get through.
        await bench.publish(*(order_event(name) for name in names))

        async def others_stored() -> bool:
            rows = await shard1_rows(bench)
            return len(rows) >= len(there)

        await bench.until_true(others_stored)
        up(StackConfig(data_dir=stack_folder), lambda _text: None)
        status = await bench.until_quiet(401, timeout_s=60)
    assert process.exit_status == 0
    assert (status.totals["orders"], status.totals["quarantined"]) == (401, 0)
    assert status.effects == {"sms": {"accepted": 401}, "email": {"accepted": 401}}
    assert "shard.away" in process.log.read_text()


async def shard1_rows(bench: Bench) -> list:
    return await bench.rows("SELECT order_id FROM orders WHERE order_id <> 'first'", shard="shard1")


async def test_a_header_nested_deeper_than_json_goes_to_quarantine(
    bench: Bench, settings: Settings, run_pipeline
) -> None:
    table = b""
    for _ in range(300):
        table = b"\x01aF" + len(table).to_bytes(4, "big") + table
    properties = b"\x20\x00" + len(table).to_bytes(4, "big") + table
    async with raw_publisher(settings) as publisher:
        await publisher.publish(ROUTE, properties, b"[")
        await publisher.settled(10)
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(order_event("after"))
        status = await bench.until_quiet(2)
    assert (status.totals["orders"], status.totals["quarantined"]) == (1, 1)
    [row] = await bench.rows("SELECT headers FROM quarantine")
    assert "undecodable_base64" in json.loads(row["headers"])
