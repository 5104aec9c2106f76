"""A plan line by line: what, how much, and what limits it."""

import math
from typing import NamedTuple

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.layout import Layout
from loadtest.planning.plan import Plan
from loadtest.planning.sending import ChannelPlan, SmsPlan
from loadtest.planning.sizing import Sizing, queue_per_s

_LIMITING = 0.8
"""What needs so much of the shards there are is what their number follows; the rest is rounding."""


class Line(NamedTuple):
    """One line of a plan."""

    what: str
    amount: str
    why: str


def lines_of(plan: Plan, costs: CostVector, given: Assumptions) -> list[Line]:
    """Return the lines of a plan that serves its demand."""
    sizing = plan.sizing
    assert sizing is not None
    return [
        *_machine_lines(plan, sizing, given),
        *_broker_lines(plan, sizing, costs, given),
        *_shard_lines(plan, sizing, given),
        *_consumer_lines(plan, sizing, given),
        *_channel_lines(plan, given),
        *_recovery_lines(plan, sizing),
    ]


def _machine_lines(plan: Plan, sizing: Sizing, given: Assumptions) -> list[Line]:
    machine, machines = given.machine, sizing.machines
    kind = f"{machine.cores} cores, {machine.disk_gb:g} GB of disk"
    busy = sum(sizing.cores.values())
    if plan.layout is Layout.SPLIT:
        return [Line(f"machines: {role}", f"{count:,}", kind) for role, count in machines.by_role.items()]
    planned, keeping = given.utilisation.planned_share, given.broker.quorum
    if machines.total <= math.ceil(busy / (machine.cores * planned)):
        why = f"CPU: {busy:,.1f} cores busy, {planned:.0%} planned"
    elif machines.total == machines.shards:
        why = "one for each shard"
    elif machines.total == max(keeping, given.postgresql.copies):
        why = f"as many as keep a message ({keeping})" if machines.total == keeping else "one for each copy"
    else:
        why = f"CPU: {busy:,.1f} cores busy, below {planned:.0%} for the p99 and a lost shard"
    at = f"{machines.busiest_share:.0%} busy"
    return [Line("machines", f"{machines.total:,}", f"{why}; {kind}; the busiest is {at}")]


def _broker_lines(plan: Plan, sizing: Sizing, costs: CostVector, given: Assumptions) -> list[Line]:
    queue = queue_per_s(plan.demand, costs, given)
    fullest = max(plan.demand.orders_per_s, plan.demand.invoices_per_s) / sizing.installations
    used = f"its fuller queue takes {fullest:,.0f} events/s, {queue:,.0f} are planned"
    nodes = sizing.machines.by_role.get("broker", given.broker.quorum * sizing.installations)
    return [
        Line("installations", f"{sizing.installations:,}", f"a broker cluster each; {used}"),
        Line("broker nodes", f"{nodes:,}", f"{given.broker.quorum} keep each message"),
    ]


def _shard_lines(plan: Plan, sizing: Sizing, given: Assumptions) -> list[Line]:
    machines, traffic = sizing.machines, plan.traffic
    assert traffic is not None
    skew = f"the fullest has {plan.skew:.3f} times the mean, by the real ring"
    data = f" with {traffic.disk_gb:,.0f} GB each" if traffic.disk_gb else ""
    room_gb = given.machine.disk_gb * given.machine.disk_fill_max
    copies = given.postgresql.copies if plan.layout is Layout.SHARED else 1
    by_disk = math.ceil(plan.demand.data_bytes * copies / 1e9 / room_gb)
    limit = "disks" if by_disk > _LIMITING * machines.shards / machines.skew else "CPU of primaries"
    most = given.postgresql.connections_max
    return [
        Line("shards", f"{machines.shards:,}", f"for {limit}; primary and replica{data}; {skew}"),
        Line("connections of a primary", f"{sizing.connections:,}", f"at most {most:,} are planned"),
        Line("WAL of a primary", f"{traffic.wal_mb_per_s:,.1f} MB/s", "goes to its replica too"),
        Line(
            "network of a machine",
            f"{traffic.network_mbit:,.0f} Mbit/s",
            f"{traffic.network_share:.1%} of it; at most {given.machine.network_fill_max:.0%} is planned",
        ),
    ]


def _consumer_lines(plan: Plan, sizing: Sizing, given: Assumptions) -> list[Line]:
    count = sizing.consumers * sizing.installations
    each = plan.demand.events_per_s / count
    share = given.utilisation.planned_share
    return [
        Line("consumers", f"{count:,}", f"one thread each, {each:,.0f} events/s, at most {share:.0%} busy"),
        Line("amqp.prefetch", f"{plan.prefetch:,}", "twice what arrives within the p99 (Little's law)"),
        Line("intake.batch_linger_ms", f"{sizing.linger_ms:g}", "short, but so that batches are worth it"),
        Line(
            "events in a transaction",
            f"{sizing.batch:,.0f}",
            f"what comes for one shard to one consumer meanwhile, at most {given.settings.batch_max}",
        ),
        Line(
            "publish to committed, p99",
            f"{sizing.p99_s * 1000:,.0f} ms",
            f"{plan.demand.p99_s * 1000:,.0f} ms wanted; {sizing.machines.busiest_share:.0%} busy, by M/G/c",
        ),
    ]


def _channel_lines(plan: Plan, given: Assumptions) -> list[Line]:
    assert plan.sending is not None
    sms, mail = plan.sending.sms, plan.sending.mail
    if not plan.sending.processes:
        return []
    found = [Line("sender processes", f"{plan.sending.processes:,}", "one thread each, for both channels")]
    if sms.messages_per_s:
        found += [_pool_line("sms.concurrency", sms, given.sms.latency_s), _sender_line(sms)]
    if mail.messages_per_s:
        found.append(_pool_line("email.concurrency", mail, given.mail.latency_s))
        grace = plan.demand.orders_per_s * plan.demand.mail_share * plan.demand.grace_window_s
        why = f"{plan.demand.grace_window_s:g} s of order mails; rows of the outbox, no memory"
        found.append(Line("mails in the grace window", f"{grace:,.0f}", why))
    return found


def _pool_line(setting: str, channel: ChannelPlan, latency_s: float) -> Line:
    flow = f"{channel.messages_per_s:,.0f}/s for {latency_s * 1000:g} ms"
    why = f"of each; {channel.calls:,} calls at once in all: {flow}; 1 in 100 waits for a place"
    return Line(setting, f"{channel.concurrency:,}", why)


def _sender_line(sms: SmsPlan) -> Line:
    assert sms.limit_per_s is not None
    why = f"{sms.sender}: together {sms.limit_per_s:,.0f} SMS/s, {sms.messages_per_s:,.0f} are owed"
    return Line("sender numbers", f"{sms.senders:,}", why)


def _recovery_lines(plan: Plan, sizing: Sizing) -> list[Line]:
    assert plan.drain is not None
    down = sizing.down
    backlog = f"{plan.drain.backlog_events:,.0f} events of {duration(plan.demand.backlog_s)}"
    return [
        Line(
            "headroom with a shard down",
            f"{down.headroom:.0%}",
            f"the machine that takes over is {down.busy_share:.0%} busy",
        ),
        Line(
            "and it catches up in",
            duration(down.catch_up_s),
            f"{down.waiting_events:,.0f} events of {down.failover_s:g} s, once back from the retry ladder",
        ),
        Line("a backlog is drained in", duration(plan.drain.events_s), f"{backlog}, under the same load"),
    ]


def duration(seconds: float) -> str:
    """Return a time for people."""
    if math.isinf(seconds):
        return "never"
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} s"
