"""The consumer of `order.processed` events."""

from collections.abc import Callable

from consumers.amqp import QueueConsumer
from consumers.topology import ORDER_QUEUE
from pipeline.clock import Clock
from pipeline.ingest.delivery import Delivery
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import AmqpSettings


def order_processed_consumer(
    settings: AmqpSettings, deliver: Callable[[Delivery], None], metrics: Metrics, clock: Clock, tasks: Tasks
) -> QueueConsumer:
    """Return the consumer that hands the queue's deliveries to `deliver`."""
    return QueueConsumer(
        ORDER_QUEUE, settings=settings, deliver=deliver, metrics=metrics, clock=clock, tasks=tasks
    )
