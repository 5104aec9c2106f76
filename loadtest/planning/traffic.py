"""Bytes: over the network, into the write-ahead log, onto disks."""

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.sizing import Sizing

_DAY_S = 86_400


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """At the peak, spread over all machines evenly. `network_mbit`: in and out of one machine together.

    `disk_gb` is of one primary. `growth_gb_per_day`: of all primaries, were it the peak all day.
    """

    network_mbit: float
    network_share: float
    wal_mb_per_s: float
    disk_gb: float
    growth_gb_per_day: float


def traffic_for(demand: Demand, costs: CostVector, given: Assumptions, sizing: Sizing) -> Traffic:
    """Return the traffic: broker, its followers, a consumer, a primary, and as WAL a replica."""
    hops = given.broker.quorum + 2
    messages = demand.sms_per_s + demand.mails_per_s
    wal = demand.events_per_s * costs.wal_event_bytes.value + messages * costs.wal_message_bytes.value
    carried = demand.events_per_s * costs.event_bytes.value * hops + wal * (given.postgresql.copies - 1)
    mbit = 2 * carried * 8 / 1e6 / sizing.machines.total  # each byte leaves one machine and enters another
    stored = demand.orders_per_s * costs.order_bytes.value + demand.invoices_per_s * costs.invoice_bytes.value
    return Traffic(
        network_mbit=mbit,
        network_share=mbit / given.machine.network_mbit,
        wal_mb_per_s=wal / 1e6 / sizing.machines.shards,
        disk_gb=demand.data_bytes / sizing.machines.shards / 1e9,
        growth_gb_per_day=stored * _DAY_S / 1e9,
    )
