"""A plan: what serves a demand, what limits each part of it, and what cannot be met."""

import math

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector, estimated
from loadtest.planning.demand import Demand
from loadtest.planning.latency import idle_s
from loadtest.planning.layout import Layout
from loadtest.planning.money import Money, money_for
from loadtest.planning.placement import max_to_mean
from loadtest.planning.recovery import Drain, drain
from loadtest.planning.sending import ChannelPlan, SendingPlan, SmsPlan, plan_sending
from loadtest.planning.sizing import Asked, Refusal, Sizing, find_sizing
from loadtest.planning.traffic import Traffic, traffic_for
from pipeline.errors import SettingsError

PREFETCH_STEP = 100


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a plan says. `sizing` is None when nothing serves the demand; `problems` then says why.

    `prefetch` is of each consumer; `skew` the fullest shard over the mean, by one installation's real ring.
    """

    demand: Demand
    layout: Layout
    sizing: Sizing | None
    sending: SendingPlan | None = None
    prefetch: int = 0
    skew: float = 1.0
    drain: Drain | None = None
    traffic: Traffic | None = None
    money: Money | None = None
    problems: list[str] = []
    estimates: list[str] = []


def make_plan(demand: Demand, costs: CostVector, given: Assumptions, layout: Layout = Layout.SHARED) -> Plan:
    """Return a plan. Raises SettingsError for a p99 that no machine reaches."""
    _check_p99(demand, costs, given)
    found = find_sizing(Asked(demand, costs, given, layout))
    if isinstance(found, Refusal):
        return Plan(
            demand=demand, layout=layout, sizing=None, problems=[found.reason], estimates=estimated(costs)
        )
    sending = plan_sending(demand, given, found.cores)
    traffic = traffic_for(demand, costs, given, found)
    return Plan(
        demand=demand,
        layout=layout,
        sizing=found,
        sending=sending,
        prefetch=prefetch_for(demand, given, found),
        skew=max_to_mean(found.machines.shards // found.installations),
        drain=drain(demand, costs, max(found.machines.busiest_share, found.thread_share)),
        traffic=traffic,
        money=money_for(demand, given, found.machines.total, sending.sms),
        problems=[*_sending_problems(sending.sms, sending.mail, given), *_traffic_problems(traffic, given)],
        estimates=estimated(costs),
    )


def prefetch_for(demand: Demand, given: Assumptions, sizing: Sizing) -> int:
    """Return `amqp.prefetch` in messages: Little's law for the p99, twice that, in whole hundreds.

    Twice, because the broker hands on only when acknowledgements come in, and those come in sets. Capped so
    that the messages hold no more than `intake.buffer_events_max` events.
    """
    per_s = demand.events_per_s / demand.events_per_message / sizing.installations / sizing.consumers
    wanted = 2 * per_s * sizing.p99_s
    most = max(1, given.settings.buffer_events_max // demand.events_per_message)
    return min(most, max(PREFETCH_STEP, PREFETCH_STEP * math.ceil(wanted / PREFETCH_STEP)))


def _check_p99(demand: Demand, costs: CostVector, given: Assumptions) -> None:
    shortest_s = min(given.settings.lingers_ms) / 1000
    if demand.p99_s <= (least_s := idle_s(costs, shortest_s)):
        least = f"{least_s * 1000:g} ms, {shortest_s * 1000:g} ms of it intake.batch_linger_ms"
        raise SettingsError([f"--p99: {demand.p99_s * 1000:g} ms is less than an idle system takes: {least}"])


def _sending_problems(sms: SmsPlan, mail: ChannelPlan, given: Assumptions) -> list[str]:
    problems = []
    if sms.senders > given.sms.senders_max:
        problems.append(
            f"{sms.messages_per_s:,.0f} SMS/s need {sms.senders:,} senders ({sms.sender}), "
            f"{given.sms.senders_max:,} at most: agree on a higher rate, or send fewer (--sms-share)"
        )
    if sms.calls > given.sms.concurrent_calls_max:
        problems.append(
            f"{sms.calls:,} SMS calls at once, {given.sms.concurrent_calls_max:,} allowed to one account: "
            "ask the provider for more, or send fewer"
        )
    if mail.limit_per_s is not None and mail.messages_per_s > mail.limit_per_s:
        problems.append(
            f"{mail.messages_per_s:,.0f} mails/s are owed, the relay takes {mail.limit_per_s:,.0f}: "
            "more relays, or fewer mails (--mail-share)"
        )
    return problems


def _traffic_problems(traffic: Traffic, given: Assumptions) -> list[str]:
    machine = given.machine
    if traffic.network_share > machine.network_fill_max:
        problem = (
            f"each machine would move {traffic.network_mbit:,.0f} Mbit/s, of {machine.network_mbit:,.0f} no "
            f"more than {machine.network_fill_max:.0%} is planned: faster networks, or more machines"
        )
        return [problem]
    return []
