"""The consumer of `invoice.generated` events."""

from collections.abc import Callable

from consumers.amqp import QueueConsumer
from consumers.topology import INVOICE_QUEUE
from pipeline.clock import Clock
from pipeline.ingest.delivery import Delivery
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import AmqpSettings


def invoice_generated_consumer(
    settings: AmqpSettings, deliver: Callable[[Delivery], None], metrics: Metrics, clock: Clock, tasks: Tasks
) -> QueueConsumer:
    """Return the consumer that hands the queue's deliveries to `deliver`."""
    return QueueConsumer(
        INVOICE_QUEUE, settings=settings, deliver=deliver, metrics=metrics, clock=clock, tasks=tasks
    )
