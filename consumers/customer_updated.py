"""The consumer of `customer.updated` events."""

from consumers.amqp import ConsumerFactory, QueueConsumer
from consumers.topology import CUSTOMER_QUEUE


def customer_updated_consumer(factory: ConsumerFactory) -> QueueConsumer:
    """Return the consumer of the queue."""
    return factory.consumer(CUSTOMER_QUEUE)
