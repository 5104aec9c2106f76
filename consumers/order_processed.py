"""The consumer of `order.processed` events."""

from consumers.amqp import ConsumerFactory, QueueConsumer
from consumers.topology import ORDER_QUEUE


def order_processed_consumer(factory: ConsumerFactory) -> QueueConsumer:
    """Return the consumer of the queue."""
    return factory.consumer(ORDER_QUEUE)
