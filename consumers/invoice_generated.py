"""The consumer of `invoice.generated` events."""

from consumers.amqp import ConsumerFactory, QueueConsumer
from consumers.topology import INVOICE_QUEUE


def invoice_generated_consumer(factory: ConsumerFactory) -> QueueConsumer:
    """Return the consumer of the queue."""
    return factory.consumer(INVOICE_QUEUE)
