"""What holds messages back on their way to a provider. A slot is a provider as the pools see it."""

from pipeline.observability.registry import MetricRegistry


class PoolMetrics:
    """Limits, circuits, calls and what they came to."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Pools")
        self.pool_ceiling = registry.gauge(
            "postorder_pool_ceiling", "Messages worked on at once at most", "channel"
        )
        self.slot_limit = registry.gauge(
            "postorder_slot_limit", "Calls at once a provider takes at the moment", "slot"
        )
        self.slot_ceiling = registry.gauge(
            "postorder_slot_ceiling", "Calls at once a provider may be given at most", "slot"
        )
        self.slot_in_flight = registry.gauge("postorder_slot_in_flight", "Calls under way", "slot")
        self.slot_circuit = registry.gauge(
            "postorder_slot_circuit", "Circuit: 0 closed, 1 being tried, 2 open", "slot"
        )
        self.held_back = registry.counter(
            "postorder_held_back",
            "Messages given back without a call: rate_limited, retry_after, circuit_open, retry_budget",
            "channel",
            "reason",
        )
        self.retry_budget = registry.gauge(
            "postorder_retry_budget", "Tries again that may be made now", "channel"
        )
        self.provider_seconds = registry.latency_by(
            "slot", "postorder_provider_seconds", "A provider's answer, from the call to the reply"
        )
        self.provider_answers = registry.tally(
            "postorder_provider_answers",
            "What calls came to: accepted, refused, account_refused, throttled, unknown",
            "slot",
            "outcome",
        )
