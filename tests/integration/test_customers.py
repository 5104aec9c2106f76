"""`customer.updated` on its way into the tables: routing, accounting, and which of several updates counts."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from customers import NOON, at, store
from real_stack import Bench, customer_event, order_event

from consumers.event_files import as_delivery
from consumers.publisher import EventPublisher
from pipeline.events import CustomerEvent
from pipeline.ingest.decoder import Decoder
from pipeline.storage.rows import BatchCounts

pytestmark = pytest.mark.integration


async def person(bench: Bench, customer_id: str) -> dict[str, Any]:
    [row] = await bench.rows("SELECT * FROM customers WHERE customer_id = $1", customer_id)
    consent = await bench.rows("SELECT channel, state FROM consent WHERE customer_id = $1", customer_id)
    return {**row, "consent": {found["channel"]: found["state"] for found in consent}}


async def test_customers_come_by_their_queue_and_everything_adds_up(bench: Bench, run_pipeline) -> None:
    customers = [customer_event(f"c-{number}") for number in range(40)]
    batch = orjson.dumps([customer_event("c-40"), order_event("o-1"), {"type": "customer.updated"}])
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(*customers, customers[0])
        async with EventPublisher(bench.settings.amqp) as publisher:
            event = Decoder(message_bytes_max=10_000).decode(
                as_delivery(orjson.dumps(customer_event("c-41")))
            )
            assert isinstance(event.event, CustomerEvent)
            await publisher.publish_event(event.event)
        await bench.publish(
            orjson.dumps(customer_event("c-42")["data"]), routing_key="customer.updated.eu", content_type=None
        )
        await bench.publish(batch, content_type="application/cloudevents-batch+json")
        status = await bench.until_quiet(46)
    assert status.totals["customers"] == 43
    assert (status.totals["orders"], status.totals["duplicates"], status.totals["quarantined"]) == (1, 1, 1)
    assert status.accounting.balances
    assert status.accounting.events == 46
    sums = await bench.rows("SELECT sum(customers) AS customers FROM intake_batch")
    assert sum(row["customers"] or 0 for row in sums) == 43
    # Each lives where its own id puts it, with its inbox row.
    rows = await bench.rows("SELECT slot, slot_of(customer_id) AS its FROM customers")
    assert all(row["slot"] == row["its"] for row in rows)
    [lost] = await bench.rows("SELECT count(*) AS n FROM customers c LEFT JOIN inbox i USING (slot) "
                              "WHERE i.slot IS NULL", shard="shard0")  # fmt: skip
    assert lost["n"] == 0


async def test_the_latest_update_counts_and_what_it_leaves_out_is_gone(bench: Bench) -> None:
    await store(bench, customer_event("c-1", updated_at=at(10), name="ten", locale="de"))
    await store(bench, customer_event("c-1", updated_at=at(5), name="five"))
    assert (await person(bench, "c-1"))["name"] == "ten"
    await store(bench, customer_event("c-1", updated_at=at(10), name="ten too"))
    assert (await person(bench, "c-1"))["name"] == "ten"
    await store(
        bench,
        customer_event("c-1", updated_at=at(20), name="twenty", phone=None),
        customer_event("c-1", updated_at=at(15), name="fifteen"),
    )
    found = await person(bench, "c-1")
    assert (found["name"], found["phone"], found["locale"]) == ("twenty", None, None)
    assert found["updated_at"] == NOON + timedelta(seconds=20)


async def test_consent_goes_by_its_own_time_for_each_channel(bench: Bench) -> None:
    await store(bench, customer_event("c-1", updated_at=at(10), consent={"sms": "out", "email": "in"}))
    await store(bench, customer_event("c-1", updated_at=at(20), name="later"))
    assert (await person(bench, "c-1"))["consent"] == {"sms": "out", "email": "in"}
    # Older than the details there are, and newer than what was said of the mails.
    await store(bench, customer_event("c-1", updated_at=at(15), name="between", consent={"email": "out"}))
    await store(bench, customer_event("c-1", updated_at=at(5), consent={"sms": "in"}))
    found = await person(bench, "c-1")
    assert found["name"] == "later"
    assert found["consent"] == {"sms": "out", "email": "out"}


async def test_an_update_from_the_far_future_does_not_keep_later_ones_out(bench: Bench) -> None:
    await store(bench, customer_event("c-1", updated_at="9999-01-01T00:00:00Z", name="never"))
    [row] = await bench.rows(
        "SELECT updated_at - recorded_at = interval '5 minutes' AS is_near FROM customers"
    )
    assert row["is_near"]
    # Ten minutes pass.
    await bench.execute("UPDATE customers SET updated_at = updated_at - interval '10 minutes'")
    await store(bench, customer_event("c-1", updated_at=datetime.now(UTC).isoformat(), name="now"))
    assert (await person(bench, "c-1"))["name"] == "now"


async def test_the_same_again_is_a_duplicate_and_the_same_identity_otherwise_a_conflict(bench: Bench) -> None:
    event = customer_event("c-1", name="first")
    other = {**event, "data": {**event["data"], "name": "other", "updated_at": at(99)}}
    assert await store(bench, event, event, other) == [BatchCounts(0, 0, 1, 1, 1)]
    assert await store(bench, other) == [BatchCounts(0, 0, 0, 0, 1)]
    assert await store(bench, event) == [BatchCounts(0, 0, 0, 1, 0)]
    assert (await person(bench, "c-1"))["name"] == "first"
    status = await bench.status()
    assert status.accounting.balances
    rows = await bench.rows("SELECT reason, seen FROM quarantine")
    assert rows == [{"reason": "identity_conflict", "seen": 2}]


async def test_whatever_the_order_and_the_batches_the_end_is_the_same(bench: Bench) -> None:
    """Many updates of few persons, in random order, by several transactions at once."""
    rng = random.Random(14)  # no secret
    events = [
        customer_event(f"c-{n % 5}", updated_at=at(n), name=str(n), consent={"sms": ("in", "out")[n % 2]})
        for n in range(300)
    ]
    rng.shuffle(events)
    await asyncio.gather(*(store(bench, *events[first : first + 20]) for first in range(0, 300, 20)))
    for number in range(5):
        found = await person(bench, f"c-{number}")
        assert found["name"] == str(295 + number)
        assert found["consent"]["sms"] == ("in", "out")[(295 + number) % 2]
    assert (await bench.status()).accounting.balances
