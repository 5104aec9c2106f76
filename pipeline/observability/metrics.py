"""Every metric of the pipeline, in one registry. Labels are bounded: no ids, no shard of unbounded number."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pipeline.errors import SettingsError

# Thirty per cent apart from 1 ms to 2 min, so that a percentile can be read within about 15 %.
LATENCY_BUCKETS_S = tuple(round(0.001 * 1.3**step, 6) for step in range(45))


class LatencyHistogram(Collector):
    """A histogram for the hot path: a batch's values at once, at a fifth of the library's cost for each."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name = name
        self._documentation = documentation
        self._counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Count a value in seconds."""
        self._counts[bisect_left(LATENCY_BUCKETS_S, value_s)] += 1
        self._sum_s += value_s

    def observe_all(self, values_s: Sequence[float]) -> None:
        """Count values in seconds."""
        counts = self._counts
        for value_s in values_s:
            counts[bisect_left(LATENCY_BUCKETS_S, value_s)] += 1
        self._sum_s += sum(values_s)

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Return the upper bounds, each with the number of values up to it, and the sum in seconds."""
        bounds = [*map(str, LATENCY_BUCKETS_S), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True)), self._sum_s

    def collect(self) -> Iterator[Metric]:
        """Return the histogram as the library's."""
        buckets, sum_s = self.read()
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=sum_s)


class LatencyByLabel(Collector):
    """Histograms for the hot path, one for each value of a label. Values of the label must be few."""

    def __init__(self, name: str, documentation: str, label: str) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._histograms: dict[str, LatencyHistogram] = {}

    def observe(self, value: str, seconds: float) -> None:
        """Count seconds under a value of the label."""
        self.under(value).observe(seconds)

    def under(self, value: str) -> LatencyHistogram:
        """Return the histogram of a value of the label."""
        histogram = self._histograms.get(value)
        if histogram is None:
            histogram = self._histograms[value] = LatencyHistogram(self._name, self._documentation)
        return histogram

    def collect(self) -> Iterator[Metric]:
        """Return the histograms as one of the library's."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, histogram in list(self._histograms.items()):  # /metrics is served by another thread
            buckets, sum_s = histogram.read()
            family.add_metric([value], buckets, sum_s)
        yield family


class IntakeMetrics:
    """What flow one counts: from the broker to the shards."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "postorder_events", "Events settled", ["outcome"], registry=registry
        )  # outcome: order, invoice, duplicate, quarantined
        self.batches = Counter("postorder_batches", "Intake transactions", ["trigger"], registry=registry)
        self.batch_events = Histogram(
            "postorder_batch_events",
            "Events in one intake transaction",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
            registry=registry,
        )
        self.write_seconds = Histogram(
            "postorder_write_seconds",
            "Intake transaction, from BEGIN to the replica's answer",
            ["shard"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.write_failures = Counter(
            "postorder_write_failures", "Intake transactions to be repeated", ["shard"], registry=registry
        )
        self.publish_to_committed = LatencyHistogram(
            "postorder_publish_to_committed_seconds",
            "From the event's CloudEvents time to its commit on primary and replica",
        )
        registry.register(self.publish_to_committed)
        self.parked = Counter(
            "postorder_parked",
            "Events given back to the broker to return later",
            ["shard"],
            registry=registry,
        )
        self.buffered = Gauge(
            "postorder_buffered_events", "Events between broker and shards", registry=registry
        )


class NotificationMetrics:
    """What flow two counts: from the outbox to the providers and back."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.claims = Counter("postorder_claims", "Messages claimed", ["channel"], registry=registry)
        self.in_flight = Gauge(
            "postorder_sends_in_flight",
            "Messages worked on: looked up, composed, in their call",
            ["channel"],
            registry=registry,
        )
        self.created_to_accepted_seconds = Histogram(
            "postorder_created_to_accepted_seconds",
            "From an owed message to the provider's acceptance; order mails include the grace window",
            ["kind"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.receipts = Counter(
            "postorder_receipts", "Receipts recorded", ["channel", "state"], registry=registry
        )
        self.open_receipts = Gauge(
            "postorder_open_receipts", "Receipts that are not durable yet", ["channel"], registry=registry
        )
        self.stale_receipts = Counter(
            "postorder_stale_receipts", "Receipts of a claim that was lost", ["channel"], registry=registry
        )
        self.unknown_effects = Gauge(
            "postorder_unknown_effects",
            "Messages of which nobody knows whether they were accepted",
            ["shard", "channel"],
            registry=registry,
        )
        self.unknown_oldest_seconds = Gauge(
            "postorder_unknown_oldest_seconds",
            "Since when the oldest of them is owed",
            ["shard", "channel"],
            registry=registry,
        )
        self.inquiries = Counter(
            "postorder_inquiries",
            "Unknown messages asked about: found, not_found, cannot_tell",
            ["channel", "outcome"],
            registry=registry,
        )


class PoolMetrics:
    """What holds messages back on their way to a provider. A slot is a provider as the pools see it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pool_ceiling = Gauge(
            "postorder_pool_ceiling", "Messages worked on at once at most", ["channel"], registry=registry
        )
        self.slot_limit = Gauge(
            "postorder_slot_limit",
            "Calls at once a provider takes at the moment",
            ["slot"],
            registry=registry,
        )
        self.slot_in_flight = Gauge(
            "postorder_slot_in_flight", "Calls under way", ["slot"], registry=registry
        )
        self.slot_circuit = Gauge(
            "postorder_slot_circuit", "Circuit: 0 closed, 1 being tried, 2 open", ["slot"], registry=registry
        )
        self.held_back = Counter(
            "postorder_held_back",
            "Messages given back without a call: rate_limited, retry_after, circuit_open, retry_budget",
            ["channel", "reason"],
            registry=registry,
        )
        self.retry_budget = Gauge(
            "postorder_retry_budget", "Tries again that may be made now", ["channel"], registry=registry
        )
        self.provider_seconds = LatencyByLabel(
            "postorder_provider_seconds", "A provider's answer, from the call to the reply", "slot"
        )
        registry.register(self.provider_seconds)


class PublicMetrics:
    """What is counted of the public listener."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.callbacks = Counter(
            "postorder_callbacks", "Requests from outside", ["kind", "outcome"], registry=registry
        )  # kind: status, inbound, unsubscribe, bounce, other, connection
        self.callback_seconds = Histogram(
            "postorder_callback_seconds",
            "From a request's head to its answer, durable where it had to be",
            ["kind"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.status_words = Counter(
            "postorder_status_words",
            "What became of providers' words about messages: applied, old, other_id, contradiction, "
            "no_such_message, not_understood",
            ["outcome"],
            registry=registry,
        )
        self.callbacks_under_way = Gauge(
            "postorder_callbacks_under_way", "Requests being answered", registry=registry
        )


class BrokerMetrics:
    """What is counted of the broker: its queues, and the connections to it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.queue_messages = Gauge(
            "postorder_queue_messages", "Messages ready for delivery", ["queue"], registry=registry
        )
        self.queue_consumers = Gauge(
            "postorder_queue_consumers", "Consumers the broker counts", ["queue"], registry=registry
        )
        self.reconnects = Counter(
            "postorder_amqp_reconnects",
            "Connections to the broker made anew",
            ["consumer"],
            registry=registry,
        )


class ShardMetrics:
    """What is counted of the shards themselves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.slots_leaving = Gauge(
            "postorder_slots_leaving",
            "Slots that take no writes because they are being handed over, half a minute ago at most",
            ["shard"],
            registry=registry,
        )


class Metrics(IntakeMetrics, NotificationMetrics, PoolMetrics, PublicMetrics, BrokerMetrics, ShardMetrics):
    """The metrics of one process. Seconds and bytes throughout."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        IntakeMetrics.__init__(self, self.registry)
        NotificationMetrics.__init__(self, self.registry)
        PoolMetrics.__init__(self, self.registry)
        PublicMetrics.__init__(self, self.registry)
        BrokerMetrics.__init__(self, self.registry)
        ShardMetrics.__init__(self, self.registry)

    def serve(self, host: str, port: int) -> None:
        """Serve /metrics from a thread of its own until the process ends. Raises SettingsError."""
        try:
            start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            problem = f"ops.metrics_port: cannot listen on {host}:{port}: {error.strerror}"
            raise SettingsError([problem]) from error
