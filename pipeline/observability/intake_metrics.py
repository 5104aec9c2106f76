"""What flow one counts: from the broker to the shards."""

from typing import Final

from pipeline.observability.registry import MetricRegistry

_WRITE_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Fewer than for latencies: there is a histogram for each shard."""

EVENT_TYPES: Final = ("order", "invoice", "customer", "quarantine")
OUTCOMES: Final = ("orders", "invoices", "customers", "duplicates", "quarantined")


class IntakeMetrics:
    """Events and batches; what waits between broker and shards."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Intake")
        # These four together: a scrape reads one metric after the other while events go on, and what came in
        # is to be what became of it (postorder:intake:difference).
        self.received = registry.tally(
            "postorder_events_received",
            "Events taken in: order, invoice, customer, quarantine (no valid event)",
            "type",
            known=((word,) for word in EVENT_TYPES),
        )
        self.events = registry.counter(
            "postorder_events",
            "Events settled: orders, invoices, customers, duplicates, quarantined",
            "outcome",
            known=((word,) for word in OUTCOMES),
        )
        self.buffered = registry.gauge("postorder_buffered_events", "Events between broker and shards")
        self.parked = registry.tally(
            "postorder_parked", "Events given back to the broker to return later", "shard"
        )
        self.quarantined = registry.counter(
            "postorder_quarantined",
            "Events sent to quarantine, by reason code; conflicts of identity are in "
            "postorder_events_total alone",
            "reason",
        )
        self.batches = registry.counter(
            "postorder_batches",
            "Batches: size, timeout, flush; durable, refused, failed, shard_away, moved",
            "trigger",
            "outcome",
        )
        self.batch_events = registry.histogram(
            "postorder_batch_events",
            "Events in one intake transaction",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        )
        self.write_seconds = registry.latency_by(
            "shard",
            "postorder_write_seconds",
            "Intake transaction, from BEGIN to the replica's answer, tries again included",
            _WRITE_BUCKETS_S,
        )
        self.write_failures = registry.counter(
            "postorder_write_failures", "Intake transactions to be repeated", "shard"
        )
        self.publish_to_committed = registry.latency(
            "postorder_publish_to_committed_seconds",
            "From the event's CloudEvents time to its commit on primary and replica",
        )
        self.shard_events = registry.tally("postorder_shard_events", "Events settled, by shard", "shard")
        self._make_gauges(registry)

    def _make_gauges(self, registry: MetricRegistry) -> None:
        self.buffer_max = registry.gauge(
            "postorder_buffer_events_max",
            "Events between broker and shards at most; above it nothing is read from the broker",
        )
        self.paused = registry.gauge(
            "postorder_intake_paused", "1 while nothing is read from the broker because the buffer is full"
        )
        self.lane_events = registry.sizes(
            "postorder_lane_events", "Events that wait for a batch of their shard", "shard"
        )
        self.oldest_event_seconds = registry.gauge(
            "postorder_oldest_event_seconds",
            "How long the event that waits longest for its batch has waited",
        )
        self.shard_away = registry.gauge(
            "postorder_shard_away",
            "1 while events of a shard are parked because it cannot be written to",
            "shard",
        )
