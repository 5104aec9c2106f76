"""What a supervisor counts: its workers."""

from pipeline.observability.registry import MetricRegistry


class SupervisorMetrics:
    """Served by the supervisor, on `ops.metrics_port`; its workers serve theirs on the ports after it."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Supervisor and allocator")
        self.workers = registry.gauge(
            "postorder_allocator_workers", "Worker processes: wanted, running", "state"
        )
        self.restarts = registry.counter(
            "postorder_worker_restarts", "Workers started again because they had ended by themselves"
        )
