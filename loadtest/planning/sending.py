"""Senders, their pools, and the numbers that SMS come from."""

from math import ceil

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.demand import Demand
from loadtest.planning.loads import Part
from loadtest.planning.queueing import servers_for
from pipeline.errors import SettingsError

PROCESSES_MIN = 2
"""Of each kind in an installation, so that one may be away."""


class ChannelPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One channel, all processes together.

    `calls` are under way at once in all of them; `concurrency` is the setting of each. `limit_per_s`: what
    the provider takes; None: no limit.
    """

    messages_per_s: float
    calls: int
    concurrency: int
    limit_per_s: float | None


class SmsPlan(ChannelPlan, frozen=True, kw_only=True):
    """SMS: and how many senders their rate needs."""

    sender: str
    senders: int


class SendingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Both channels. `processes` are `postorder run --only notifications`, each a thread for both of them."""

    processes: int
    sms: SmsPlan
    mail: ChannelPlan


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


def plan_sending(demand: Demand, given: Assumptions, cores: dict[Part, float]) -> SendingPlan:
    """Return processes, pools and senders.

    Little's law gives the calls under way; so many are allowed that one message in a hundred waits.
    """
    sms_calls, mail_calls = (
        servers_for(per_s * latency_s) if per_s else 0
        for per_s, latency_s in (
            (demand.sms_per_s, given.sms.latency_s),
            (demand.mails_per_s, given.mail.latency_s),
        )
    )
    processes = 0
    if sms_calls or mail_calls:
        by_cpu = ceil((cores[Part.SMS] + cores[Part.MAIL]) / given.utilisation.planned_share)
        by_calls = ceil(max(sms_calls, mail_calls) / given.settings.calls_max)
        processes = max(PROCESSES_MIN, by_cpu, by_calls)
    rate = sender_rate(given, given.sms.sender)
    senders = ceil(demand.sms_per_s * demand.segments_per_sms / rate - 1e-9)
    sms = SmsPlan(
        messages_per_s=demand.sms_per_s,
        calls=sms_calls,
        concurrency=ceil(sms_calls / max(1, processes)),
        limit_per_s=senders * rate / demand.segments_per_sms,
        sender=given.sms.sender,
        senders=senders,
    )
    mail = ChannelPlan(
        messages_per_s=demand.mails_per_s,
        calls=mail_calls,
        concurrency=ceil(mail_calls / max(1, processes)),
        limit_per_s=given.mail.mails_per_s or None,
    )
    return SendingPlan(processes=processes, sms=sms, mail=mail)
