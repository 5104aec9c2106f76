"""The metrics of traces themselves. Registered in processes that trace."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class TraceMetrics:
    """What became of spans on their way out. Dropped: queue_full, refused, unreachable, ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.exported = Counter(
            "postorder_spans_exported", "Spans that the OTLP receiver has taken", registry=registry
        )
        self.dropped = Counter(
            "postorder_spans_dropped",
            "Spans given up: queue_full, refused, unreachable, ended",
            ["reason"],
            registry=registry,
        )
        self.waiting = Gauge("postorder_spans_waiting", "Spans that wait to be sent", registry=registry)
        self.held_back = Counter(
            "postorder_traces_held_back",
            "Events not traced because traces.events_per_s_max was reached",
            registry=registry,
        )
