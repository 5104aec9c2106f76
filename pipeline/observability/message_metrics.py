"""What flow two counts: from the outbox to the providers and back."""

from itertools import product
from typing import Final

from pipeline.observability.registry import MetricRegistry

CHANNELS: Final = ("sms", "email")
KINDS: Final = ("order_sms", "order_email", "invoice_email")
SETTLED: Final = ("accepted", "failed", "expired", "unknown")
"""States of receipts that the objectives count."""


class MessageMetrics:
    """Messages claimed, sent and settled; those that wait, and those of unknown outcome."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Messages")
        self.claims = registry.counter("postorder_claims", "Messages claimed", "channel")
        self.in_flight = registry.gauge(
            "postorder_sends_in_flight",
            "Messages worked on: looked up, composed, in their call",
            "channel",
        )
        self.pool_waiting = registry.gauge(
            "postorder_pool_waiting", "Messages claimed that no worker has begun", "channel"
        )
        self._make_latencies(registry)
        self.receipts = registry.counter(
            "postorder_receipts", "Receipts recorded", "channel", "state", known=product(CHANNELS, SETTLED)
        )
        self.open_receipts = registry.gauge(
            "postorder_open_receipts", "Receipts that are not durable yet", "channel"
        )
        self.stale_receipts = registry.counter(
            "postorder_stale_receipts", "Receipts of a claim that was lost", "channel"
        )
        self._make_ledger(registry)

    def _make_latencies(self, registry: MetricRegistry) -> None:
        self.committed_to_claimed = registry.latency_by(
            "kind",
            "postorder_committed_to_claimed_seconds",
            "From an owed message's commit to its first claim; order mails include the grace window",
        )
        self.claimed_to_accepted = registry.latency_by(
            "kind",
            "postorder_claimed_to_accepted_seconds",
            "From a claim to the provider's acceptance",
        )
        self.created_to_accepted = registry.latency_by(
            "kind",
            "postorder_created_to_accepted_seconds",
            "From an owed message to the provider's acceptance; order mails include the grace window",
        )
        self.due_to_accepted = registry.latency_by(
            "kind",
            "postorder_due_to_accepted_seconds",
            "From when a message was to go, mails after the grace window, to the provider's acceptance; "
            "without those that a rule of ours ever held back",
            known=KINDS,
        )
        self.accepted_to_delivered = registry.latency_by(
            "channel",
            "postorder_accepted_to_delivered_seconds",
            "From the provider's acceptance to its word that the message was delivered",
        )

    def _make_ledger(self, registry: MetricRegistry) -> None:
        self.due_messages = registry.gauge(
            "postorder_due_messages",
            "Messages that are due and not claimed, 100,000 at most",
            "shard",
            "channel",
        )
        self.oldest_due_seconds = registry.gauge(
            "postorder_oldest_due_seconds",
            "For how long the oldest of them has been due",
            "shard",
            "channel",
        )
        self.unknown_effects = registry.gauge(
            "postorder_unknown_effects",
            "Messages of which nobody knows whether they were accepted",
            "shard",
            "channel",
        )
        self.unknown_oldest_seconds = registry.gauge(
            "postorder_unknown_oldest_seconds",
            "Since when the oldest of them is owed",
            "shard",
            "channel",
        )
        self.inquiries = registry.counter(
            "postorder_inquiries",
            "Unknown messages asked about: found, not_found, cannot_tell",
            "channel",
            "outcome",
        )
