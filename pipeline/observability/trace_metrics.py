"""The metrics of traces themselves. Registered in processes that trace."""

from pipeline.observability.registry import MetricRegistry


class TraceMetrics:
    """What became of spans on their way out."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Traces")
        self.exported = registry.counter("postorder_spans_exported", "Spans that the OTLP receiver has taken")
        self.dropped = registry.counter(
            "postorder_spans_dropped",
            "Spans given up: queue_full, refused, unreachable, ended (the process was), defect (of ours)",
            "reason",
        )
        self.waiting = registry.gauge("postorder_spans_waiting", "Spans that wait to be sent")
        self.held_back = registry.counter(
            "postorder_traces_held_back",
            "Events not traced because traces.events_per_s_max was reached",
        )
