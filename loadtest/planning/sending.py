"""Senders, their pools, and the numbers that SMS come from."""

from math import ceil

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.demand import Demand
from loadtest.planning.loads import Part
from loadtest.planning.queueing import servers_for
from pipeline.errors import SettingsError


class ChannelPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One channel.

    `processes` are `postorder run --only notifications`; `calls` are under way at once in all of them;
    `concurrency` is the setting of each. `limit_per_s`: messages the provider takes; None: no limit.
    """

    messages_per_s: float
    processes: int
    calls: int
    concurrency: int
    limit_per_s: float | None


class SmsPlan(ChannelPlan, frozen=True, kw_only=True):
    """SMS: and how many senders their rate needs."""

    sender: str
    senders: int


def sender_rate(given: Assumptions, sender: str) -> float:
    """Return segments per second of one sender: a kind, or a number. Raises SettingsError."""
    rates = given.sms.segments_per_s
    if sender in rates:
        return rates[sender]
    try:
        rate = float(sender)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise SettingsError(
            [f"--sender: must be {', '.join(rates)}, or segments per second above 0, not {sender!r}"]
        )
    return rate


def plan_sms(demand: Demand, given: Assumptions, cores: dict[Part, float], busy_max: float) -> SmsPlan:
    """Return the SMS channel."""
    sender = given.sms.sender
    rate = sender_rate(given, sender)
    senders = ceil(demand.sms_per_s * demand.segments_per_sms / rate - 1e-9)
    processes, calls, concurrency = _pool(
        demand.sms_per_s, given.sms.latency_s, cores[Part.SMS], busy_max, given
    )
    return SmsPlan(
        messages_per_s=demand.sms_per_s,
        processes=processes,
        calls=calls,
        concurrency=concurrency,
        limit_per_s=senders * rate / demand.segments_per_sms,
        sender=sender,
        senders=senders,
    )


def plan_mail(demand: Demand, given: Assumptions, cores: dict[Part, float], busy_max: float) -> ChannelPlan:
    """Return the mail channel."""
    processes, calls, concurrency = _pool(
        demand.mails_per_s, given.mail.latency_s, cores[Part.MAIL], busy_max, given
    )
    return ChannelPlan(
        messages_per_s=demand.mails_per_s,
        processes=processes,
        calls=calls,
        concurrency=concurrency,
        limit_per_s=given.mail.mails_per_s or None,
    )


def _pool(
    per_s: float, latency_s: float, cores: float, busy_max: float, given: Assumptions
) -> tuple[int, int, int]:
    """Return processes, calls at once in all, and calls at once of one process.

    A process is one thread, so one core. Little's law gives the calls under way; so many are allowed that
    one message in a hundred waits for a place.
    """
    if per_s == 0:
        return 0, 0, 0
    calls = servers_for(per_s * latency_s)
    processes = max(1, ceil(cores / busy_max), ceil(calls / given.settings.calls_max))
    return processes, calls, ceil(calls / processes)
