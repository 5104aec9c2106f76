"""The queues on a real broker: declared again, found different, and messages that come round and round."""

import aio_pika
import pytest
from aio_pika.exceptions import ChannelPreconditionFailed
from real_stack import Bench

from consumers.migration import apply_to_broker
from consumers.topology import (
    DEAD_QUEUE,
    DELIVERY_LIMIT,
    QUEUE_MESSAGES_MAX,
    UNROUTABLE_QUEUE,
    queue_names,
)
from pipeline.errors import TopologyError
from pipeline.settings import Settings

pytestmark = pytest.mark.integration

LAST_STOPS = (UNROUTABLE_QUEUE, DEAD_QUEUE)


async def test_applying_it_again_changes_nothing(bench: Bench, settings: Settings) -> None:
    assert await apply_to_broker(settings) == queue_names()


@pytest.mark.parametrize("queue", LAST_STOPS)
async def test_there_is_a_limit_that_no_later_version_replaces_by_its_own(bench: Bench, queue: str) -> None:
    """From RabbitMQ 4.0 on a queue without one drops what was delivered more than 20 times."""
    unlimited = {"x-queue-type": "quorum", "x-max-length": QUEUE_MESSAGES_MAX, "x-overflow": "reject-publish"}
    channel = await bench.broker.channel()
    with pytest.raises(ChannelPreconditionFailed, match="x-delivery-limit"):
        await channel.declare_queue(queue, durable=True, arguments=unlimited)


@pytest.mark.parametrize("queue", LAST_STOPS)
async def test_where_there_is_nowhere_further_to_go_no_delivery_is_too_many(bench: Bench, queue: str) -> None:
    channel = await bench.broker.channel()
    await channel.default_exchange.publish(aio_pika.Message(b"x", delivery_mode=2), queue, timeout=5)
    found = await channel.get_queue(queue, ensure=False)
    for _ in range(2 * DELIVERY_LIMIT):
        message = await found.get(timeout=5)
        await message.reject(requeue=True)
    message = await found.get(timeout=5)
    assert message.headers["x-delivery-count"] == 2 * DELIVERY_LIMIT
    await message.ack()
    await channel.close()


async def test_a_queue_that_is_there_with_other_arguments_is_named_and_can_be_replaced(
    bench: Bench, settings: Settings
) -> None:
    """As docs/how-to/replace-a-queue.md has it."""
    channel = await bench.broker.channel()
    await channel.queue_delete(UNROUTABLE_QUEUE)
    await channel.declare_queue(UNROUTABLE_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    try:
        with pytest.raises(TopologyError, match=f"for queue '{UNROUTABLE_QUEUE}'.*replace-a-queue"):
            await apply_to_broker(settings)
    finally:
        await channel.queue_delete(UNROUTABLE_QUEUE)
        assert await apply_to_broker(settings) == queue_names()
