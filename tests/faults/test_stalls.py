"""Shards that stall, brokers that go, processes told to end: bounded memory, bounded time, nothing lost."""

import asyncio
import signal
import time
from pathlib import Path

import orjson
import psutil
import pytest
from hung_servers import hanging
from real_stack import Bench, order_event

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from consumers.migration import apply_to_broker
from consumers.publisher import EventPublisher
from consumers.topology import EXCHANGE, WORK_QUEUES
from loadtest.cpu_account import rss_mb
from loadtest.event_source import bodies
from pipeline.settings import Settings
from stack.launcher import StackConfig, up

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

ROUTE = route_of(EXCHANGE, "order.processed", mandatory=True)
STRUCTURED = property_bytes(content_type="application/cloudevents+json")
INTAKE = ("--only", "order-processed,invoice-generated,customer-updated")


async def publish_many(settings: Settings, run: str, count: int, rate: float | None = None) -> None:
    publisher = LeanPublisher(settings.amqp, "tests", 2000)
    await publisher.open()
    started = time.monotonic()
    for number, body in enumerate(bodies(run, 0, count)):
        await publisher.publish(ROUTE, STRUCTURED, body)
        if rate is not None and number % 50 == 0:
            await asyncio.sleep(max(0.0, number / rate - (time.monotonic() - started)))
    await publisher.settled(60)
    await publisher.close()


async def stored(bench: Bench, shard: str = "") -> int:
    rows = await bench.rows("SELECT count(*) AS n FROM orders", shard=shard)
    return sum(row["n"] for row in rows)


@pytest.mark.fault(43, "both primaries hang, 200,000 events wait", ["I1", "I24", "I25"])
async def test_memory_is_bounded_whatever_stalls(
    bench: Bench, settings: Settings, stack_folder: Path, run_pipeline
) -> None:
    await publish_many(settings, "wait", 200_000)
    primaries = [pid for name, pid in up_again(stack_folder).pids.items() if name.endswith("-primary")]
    with run_pipeline(*INTAKE, storage_command_timeout_s="3", reads_timeout_s="1") as process:
        await bench.until_true(lambda: at_least(bench, 1000))
        with hanging(*primaries):
            largest = 0.0
            for _ in range(60):
                largest = max(largest, rss_mb(process.pid))
                await asyncio.sleep(0.25)
        assert largest < 250
        await bench.until_true(lambda: at_least(bench, 200_000), 150)
    assert process.exit_status == 0


async def at_least(bench: Bench, count: int) -> bool:
    return await stored(bench) >= count


@pytest.mark.fault(24, "one primary hangs under load", ["I1", "I23"])
async def test_a_shard_that_hangs_leaves_the_other_its_rate(
    bench: Bench, settings: Settings, stack_folder: Path, run_pipeline
) -> None:
    """At 1,500 events/s for both shards, the healthy one keeps at least 90 % of its share."""
    rate, seconds = 1500, 12.0
    with run_pipeline(*INTAKE, storage_command_timeout_s="3", reads_timeout_s="1") as process:
        await publish_many(settings, "warm", 3000, rate)
        await bench.until_true(lambda: at_least(bench, 3000))
        before = await stored(bench, "shard1")
        await publish_many(settings, "calm", int(rate * seconds), rate)
        calm = await stored(bench, "shard1") - before
        with hanging(up_again(stack_folder).pids["shard0-primary"]):
            before = await stored(bench, "shard1")
            await publish_many(settings, "hung", int(rate * seconds), rate)
            hung = await stored(bench, "shard1") - before
        everything = 3000 + 2 * int(rate * seconds)
        await bench.until_true(lambda: at_least(bench, everything), 120)
        assert await stored(bench) == everything
    assert hung >= 0.9 * calm
    assert process.exit_status == 0


@pytest.mark.fault(3, "SIGTERM under load, three times", ["I1", "I28"])
async def test_told_to_end_under_load(bench: Bench, settings: Settings, run_pipeline) -> None:
    publishing = asyncio.create_task(publish_many(settings, "load", 12_000, 1500))
    for _ in range(3):
        with run_pipeline(*INTAKE) as process:
            await bench.until_true(lambda: consumed(bench))
            await asyncio.sleep(0.5)  # in the middle of its work
            started = time.monotonic()
            await asyncio.to_thread(process.stop, signal.SIGTERM)
            assert time.monotonic() - started < 30
        assert process.exit_status == 0
    await publishing
    with run_pipeline(*INTAKE):
        await bench.until_true(lambda: at_least(bench, 12_000), 60)
        status = await bench.status()
    # Whatever was acknowledged was stored, and whatever was not came again: no duplicates after a drain.
    assert (status.totals["orders"], status.totals["duplicates"]) == (12_000, 0)
    assert {queue.name: queue.messages for queue in status.queues}["dead-letters"] == 0


async def consumed(bench: Bench) -> bool:
    queues = (await bench.status()).queues
    return all(queue.consumers for queue in queues if queue.name in WORK_QUEUES)


@pytest.mark.fault(7, "broker killed; consumers are back within 15 s of its return", ["I1", "I26"])
@pytest.mark.parametrize("reader", ["lean", "aio-pika"])
async def test_consumers_are_back_soon(
    bench: Bench, settings: Settings, stack_folder: Path, run_pipeline, reader: str
) -> None:
    with run_pipeline(*INTAKE, amqp_reader=reader) as process:
        for round_ in range(2):
            async with EventPublisher(settings.amqp) as publisher:
                await publisher.publish(orjson.dumps(order_event(f"before-{round_}")), "order.processed")
            broker = psutil.Process(up_again(stack_folder).pids["rabbitmq"])
            broker.kill()
            psutil.wait_procs([broker], timeout=10)
            settings_of_new = up_again(stack_folder)
            started = time.monotonic()
            assert settings_of_new.amqp_url == bench.stack.amqp_url
            # A broker that has just started may refuse for a moment; a publisher of ours copes with that.
            async with EventPublisher(settings.amqp) as publisher:
                await publisher.publish(orjson.dumps(order_event(f"after-{round_}")), "order.processed")
            wanted = 2 * (round_ + 1)
            await bench.until_true(lambda wanted=wanted: at_least(bench, wanted), 15)
            assert time.monotonic() - started < 15
        process.check()
    await bench.reconnect()


def up_again(folder: Path):
    return up(StackConfig(data_dir=folder), lambda _text: None)


@pytest.mark.fault(12, "queue deleted: the broker cancels the consumer", ["I26"])
async def test_a_deleted_queue_is_noticed_and_its_consumer_comes_back(bench: Bench, run_pipeline) -> None:
    with run_pipeline(*INTAKE) as process:
        await bench.until_true(lambda: consumed(bench))
        channel = await bench.broker.channel()
        await channel.queue_delete("order-processed")
        await bench.until_true(lambda: in_log(process, "a queue is missing"), 15)
        await apply_to_broker(bench.settings)
        await bench.publish(orjson.loads(next(bodies("again", 0, 1))))
        await bench.until_true(lambda: at_least(bench, 1), 15)
        process.check()


async def in_log(process, text: str) -> bool:
    return text in process.log.read_text()
