"""What is counted of the broker: its queues, and this process's sessions with them."""

from pipeline.observability.registry import MetricRegistry


class BrokerMetrics:
    """Queues as the broker sees them, and consumers as this process does."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Broker")
        self.broker_up = registry.gauge("postorder_broker_up", "1 if the broker answered when last looked at")
        self.queue_messages = registry.gauge(
            "postorder_queue_messages", "Messages ready for delivery", "queue"
        )
        self.queue_consumers = registry.gauge(
            "postorder_queue_consumers", "Consumers the broker counts", "queue"
        )
        self.reconnects = registry.counter(
            "postorder_amqp_reconnects", "Connections to the broker made anew", "consumer"
        )
        self.consuming = registry.gauge(
            "postorder_consuming", "1 while this process has a session with the queue", "queue"
        )
        self.prefetch = registry.gauge(
            "postorder_prefetch_deliveries", "Deliveries this process may hold unacknowledged", "queue"
        )
        self.open_deliveries = registry.gauge(
            "postorder_open_deliveries", "Deliveries this process holds unsettled", "queue"
        )
        self.deliveries = registry.tally("postorder_deliveries", "Deliveries taken", "queue")
