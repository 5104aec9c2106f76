"""The consumers of what went astray: events that no queue wanted, and events delivered too often.

Neither is lost: a valid event is stored wherever it comes from, and the rest goes to quarantine. A healthy
event lands among the dead letters when consumers died around it; it deserves its place in a table.
"""

from consumers.amqp import ConsumerFactory, QueueConsumer
from consumers.topology import DEAD_QUEUE, UNROUTABLE_QUEUE

_PREFETCH = 10  # what killed its consumers before should not meet many neighbours


def stray_consumers(factory: ConsumerFactory) -> list[QueueConsumer]:
    """Return a consumer for each of the two queues."""
    return [factory.consumer(queue, prefetch=_PREFETCH) for queue in (UNROUTABLE_QUEUE, DEAD_QUEUE)]
