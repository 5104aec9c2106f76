"""What is counted of the API."""

from pipeline.observability.registry import MetricRegistry


class ApiMetrics:
    """Requests to the API and the console, and the streams that are open."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("API")
        self.api_requests = registry.counter(
            "postorder_api_requests",
            "Requests answered: done, refused, unauthorized, forbidden, not_found, throttled, left, "
            "unavailable, failed, too_many_connections",
            "kind",
            "outcome",
        )  # kind: what follows /v1, or stream, console, other, connection
        self.api_seconds = registry.histogram(
            "postorder_api_seconds",
            "From a request's head to the end of its answer, streams left out",
            "kind",
        )
        self.api_under_way = registry.gauge("postorder_api_under_way", "Requests being answered, streams too")
        self.api_streams = registry.gauge("postorder_api_streams", "Streams of the overview that are open")
