"""What is counted of the public listener."""

from pipeline.observability.registry import MetricRegistry


class PublicMetrics:
    """Requests from outside, and what became of the words in them."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Public listener")
        self.callbacks = registry.counter(
            "postorder_callbacks",
            "Requests from outside: done, refused, not_genuine, not_found, left, unavailable, failed, "
            "too_many_connections",
            "kind",
            "outcome",
        )  # kind: status, inbound, unsubscribe, bounce, other, connection
        self.callback_seconds = registry.histogram(
            "postorder_callback_seconds",
            "From a request's head to its answer, durable where it had to be",
            "kind",
        )
        self.callbacks_under_way = registry.gauge("postorder_callbacks_under_way", "Requests being answered")
        self.status_words = registry.counter(
            "postorder_status_words",
            "What became of providers' words about messages: applied, old, other_id, contradiction, "
            "no_such_message, not_understood",
            "outcome",
        )
