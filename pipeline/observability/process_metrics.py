"""What is counted of the process itself."""

from importlib.metadata import PackageNotFoundError, version

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector

from pipeline.observability.registry import MetricRegistry


class ProcessMetrics:
    """Version, parts, readiness, the event loop; and CPU, memory and files as the library counts them."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Process")
        registry.gauge("postorder_build_info", "1, with the version", "version").labels(_version()).set(1)
        self.role = registry.gauge(
            "postorder_role", "1 for each part of the pipeline that the process runs", "role"
        )
        self.ready = registry.gauge("postorder_ready", "1 while /readyz answers 200")
        self.not_ready = registry.gauge(
            "postorder_not_ready",
            "How many causes /readyz names: starting, draining, broker, primary",
            "cause",
        )
        self.loop_lag = registry.latency(
            "postorder_event_loop_lag_seconds", "How much later than asked for the event loop came round"
        )
        self.loop_idle = registry.gauge(
            "postorder_event_loop_idle_seconds", "Since when the event loop has not come round"
        )
        self.crashes = registry.counter(
            "postorder_crashes", "Tasks that died of an error, which ends the process"
        )
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)


def _version() -> str:
    try:
        return version("postorder")
    except PackageNotFoundError:  # run from a tree that was never installed
        return "unknown"
