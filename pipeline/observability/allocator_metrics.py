"""What the allocator of a supervisor goes by and decides."""

from pipeline.observability.registry import MetricRegistry


class AllocatorMetrics:
    """Served beside a supervisor's own where an allocator decides (`--workers auto`), and nowhere else.

    With a fixed number of workers nobody looks and nobody decides: figures that stay 0 would be untrue.
    """

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Supervisor and allocator")
        self.prefetch = registry.gauge(
            "postorder_allocator_prefetch", "Deliveries that each consumer of a worker may hold unsettled"
        )
        self.batch_max = registry.gauge("postorder_allocator_batch_max", "Events that a batch may have")
        self.work_seconds = registry.gauge(
            "postorder_allocator_work_seconds",
            "Seconds of work at the broker and in the workers, by what these did since the last look",
        )
        self.worker_cpu = registry.gauge(
            "postorder_allocator_worker_cpu_cores", "CPU that a worker used since the last look, their mean"
        )
        self.bottleneck = registry.gauge(
            "postorder_allocator_bottleneck",
            "1 for what limits the workers: none, workers, prefetch, shards, machine, broker, sms, email",
            "bottleneck",
        )
        self.decisions = registry.counter(
            "postorder_allocator_decisions",
            "Changes that were decided: workers, prefetch, batch_max; up, down",
            "lever",
            "direction",
        )
