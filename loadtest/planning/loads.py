"""The utilisation law: what each part of the system is busy with, in cores, under a demand."""

import math
from enum import StrEnum

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand

_US = 1e6
FULL_SHARE = 0.97
"""How busy a machine is that does no more; the rest goes with changing from one process to another."""
EQUIPMENT = ("generator", "observer", "twilio_emulator", "smtp_sink")
"""A load test's own processes, as its reports name them."""


class Part(StrEnum):
    """The parts whose CPU is accounted for."""

    BROKER = "broker"
    FOLLOWERS = "broker followers"
    CONSUMERS = "consumers"
    PRIMARIES = "primaries"
    REPLICAS = "replicas"
    SMS = "SMS senders"
    MAIL = "mail senders"


class EventCost(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds of CPU for one event, by part. `total` is without followers, as it was measured."""

    broker: float
    followers: float
    consumer: float
    primary: float
    replica: float

    @property
    def total(self) -> float:
        """Broker, consumer, primary and replica: what DESIGN section 1 counts."""
        return self.broker + self.consumer + self.primary + self.replica


def event_cost(
    costs: CostVector,
    *,
    batch: float,
    events_per_message: int,
    followers: float = 0.0,
    messages_per_s: float = math.inf,
) -> EventCost:
    """Return what an event costs; `batch` is events in a transaction, `followers` the leader's CPU again.

    `messages_per_s`: to one broker. The fewer come, the more of them it is woken for singly; infinite: none.
    """
    woken_for = 1 / (1 + messages_per_s / costs.broker_wakings_per_s.value)
    message = costs.broker_message_us.value + costs.broker_waking_us.value * woken_for
    broker = costs.broker_event_us.value + message / events_per_message
    return EventCost(
        broker=broker,
        followers=broker * followers,
        consumer=costs.consumer_event_us.value
        + costs.consumer_message_us.value / events_per_message
        + costs.consumer_transaction_us.value / batch,
        primary=costs.primary_event_us.value + costs.primary_transaction_us.value / batch,
        replica=costs.replica_event_us.value + costs.replica_transaction_us.value / batch,
    )


def cores_busy(
    demand: Demand, costs: CostVector, given: Assumptions, batch: float, *, brokers: int = 0
) -> dict[Part, float]:
    """Return the cores that each part keeps busy, on average at the peak.

    `brokers` share the messages; 0: they are so busy that they are woken for none singly.
    """
    messages_per_s = demand.events_per_s / demand.events_per_message
    each = event_cost(
        costs,
        batch=batch,
        events_per_message=demand.events_per_message,
        followers=(given.broker.quorum - 1) * given.broker.follower_share,
        messages_per_s=messages_per_s / brokers if brokers else math.inf,
    )
    events, sms, mails = demand.events_per_s, demand.sms_per_s, demand.mails_per_s
    micros = {
        Part.BROKER: events * each.broker,
        Part.FOLLOWERS: events * each.followers,
        Part.CONSUMERS: events * each.consumer,
        Part.PRIMARIES: events * each.primary
        + sms * costs.sms_primary_us.value
        + mails * costs.mail_primary_us.value,
        Part.REPLICAS: events * each.replica
        + sms * costs.sms_replica_us.value
        + mails * costs.mail_replica_us.value,
        Part.SMS: sms * costs.sms_sender_us.value,
        Part.MAIL: mails * costs.mail_sender_us.value,
    }
    return {part: value / _US for part, value in micros.items()}


def formed_batch(
    lane_per_s: float, linger_s: float, transaction_s: float, *, in_flight: int, batch_max: int
) -> float:
    """Return how many events a transaction of one lane holds.

    The first event waits for company as long as the linger time; when all transactions of the lane are under
    way, it waits until one ends, and what comes meanwhile joins it.
    """
    return min(float(batch_max), 1 + lane_per_s * max(linger_s, transaction_s / in_flight))


def transaction_s(costs: CostVector, busy_share: float) -> float:
    """Return how long a transaction takes when the CPUs are busy: each of its turns waits for its own."""
    return costs.transaction_ms.value / 1000 / (1 - busy_share)
