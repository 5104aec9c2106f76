"""The metrics of a change of shards, in the process that coordinates it."""

from prometheus_client import start_http_server

from pipeline.errors import SettingsError
from pipeline.observability.registry import MetricRegistry

_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 2.0, 5.0)


class ReshardingMetrics:
    """Of the move that is being worked on; the histogram and the counter are of the whole change."""

    def __init__(self) -> None:
        self.registry = registry = MetricRegistry()
        registry.section("While slots move")
        self.slots = registry.gauge("postorder_reshard_slots", "Slots of the move")
        self.done = registry.gauge("postorder_reshard_slots_flipped", "Of these, flipped")
        self.tables = registry.gauge("postorder_reshard_tables_copying", "Tables not copied yet")
        self.waiting = registry.gauge("postorder_reshard_waiting", "1 while the move waits for replicas")
        self.pauses = registry.histogram(
            "postorder_reshard_pause_seconds",
            "How long a group of slots took no writes",
            buckets=_PAUSES_S,
        )
        self.moves = registry.counter("postorder_reshard_moves", "Moves completed")

    def serve(self, host: str, port: int) -> None:
        """Serve /metrics from a thread of its own until the process ends. Raises SettingsError."""
        try:
            start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise SettingsError(
                [f"--metrics-port: cannot listen on {host}:{port}: {error.strerror}"]
            ) from error
