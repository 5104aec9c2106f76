"""What observing costs on the hot path: nanoseconds for each event, and for each batch and message.

Each figure is the least of several rounds, so that what else runs disturbs it least. Run:
`.venv/bin/python scripts/measure_metrics.py`
"""

import json
import time
from collections.abc import Callable

from prometheus_client import Counter, Histogram

from pipeline.observability.metrics import Metrics

_ROUNDS = 15
_TIMES = 20_000
_BATCH = 500


def nanoseconds(work: Callable[[], object], times: int = _TIMES) -> float:
    """Return how long a call takes, at the quietest of several moments."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(times):
            work()
        best = min(best, (time.perf_counter_ns() - began) / times)
    return best


def main() -> None:
    """Print the figures as JSON."""
    metrics = Metrics()
    received, key = metrics.received.counts, ("order",)
    latencies_s = [0.02 + 0.0001 * place for place in range(_BATCH)]
    library_counter = Counter("x", "as the library has it", ["type"], registry=None)
    library_histogram = Histogram("y_seconds", "as the library has it", registry=None)

    def count_event() -> None:
        received[key] += 1

    def settle_batch() -> None:
        metrics.batches.labels("size", "durable").inc()
        metrics.batch_events.observe(_BATCH)
        metrics.events.labels("orders").inc(_BATCH)
        metrics.write_seconds.observe("shard0", 0.02)
        metrics.shard_events.add("shard0", count=_BATCH)

    def settle_message() -> None:
        metrics.committed_to_claimed.observe("order_sms", 0.02)
        metrics.created_to_accepted.observe("order_sms", 0.05)
        metrics.claimed_to_accepted.observe("order_sms", 0.03)
        metrics.provider_answers.add("twilio", "accepted")

    idle = nanoseconds(lambda: None)
    received_ns = nanoseconds(count_event) - idle
    taken_ns = received_ns  # a delivery is counted in the same way
    latency_ns = nanoseconds(lambda: metrics.publish_to_committed.observe_all(latencies_s), 200) / _BATCH
    batch_ns = nanoseconds(settle_batch) - idle
    found = {
        "event_ns": received_ns + taken_ns + latency_ns + batch_ns / _BATCH,
        "of_this_received_ns": received_ns,
        "of_this_taken_ns": taken_ns,
        "of_this_latency_ns": latency_ns,
        "of_this_batch_share_ns": batch_ns / _BATCH,
        "batch_ns": batch_ns,
        "message_ns": nanoseconds(settle_message) - idle,
        "page_ms": nanoseconds(lambda: metrics.registry.page(""), 20) / 1e6,
        "library_counter_ns": nanoseconds(lambda: library_counter.labels("order").inc()) - idle,
        "library_histogram_ns": nanoseconds(lambda: library_histogram.observe(0.02)) - idle,
    }
    print(json.dumps({name: round(value, 1) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
