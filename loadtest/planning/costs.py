"""The cost vector: what each part of the system spends on an event or a message, as measured.

It is data (`costs.toml`), each figure with the command that measured it. `python -m loadtest.planning costs`
writes it anew from what the benchmarks left in var/bench.
"""

import math
from pathlib import Path

import msgspec

from loadtest.planning.toml_file import read_toml
from pipeline.errors import SettingsError

SHIPPED = Path(__file__).with_name("costs.toml")


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure and where it comes from.

    `command` is what measures it; empty: nothing does yet, it is an estimate, and plans say so. `note` says
    how it follows from what the command prints.
    """

    value: float
    unit: str
    command: str
    at: str = ""
    machine: str = ""
    note: str = ""


class CostVector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Microseconds of CPU, bytes and times.

    What an event costs is the cost of an event, plus that of a message by the events in it, plus that of a
    transaction by the events in it. `broker_waking_us` comes on top for a message that the broker is woken
    for alone; it is woken `broker_wakings_per_s` at most, and has several messages to do at once beyond.
    `sms_` and `mail_` are for one message sent. `turn_ms` is the service time that makes the queueing formula
    give the measured latency, by load: the share of what CPUs can do when all sets are full.
    `saturation_share` is how busy the CPUs are when no more goes through.
    """

    broker_event_us: Measured
    broker_message_us: Measured
    broker_waking_us: Measured
    broker_wakings_per_s: Measured
    consumer_event_us: Measured
    consumer_message_us: Measured
    consumer_transaction_us: Measured
    primary_event_us: Measured
    primary_transaction_us: Measured
    replica_event_us: Measured
    replica_transaction_us: Measured
    publisher_event_us: Measured
    publisher_message_us: Measured
    sms_sender_us: Measured
    sms_primary_us: Measured
    sms_replica_us: Measured
    mail_sender_us: Measured
    mail_primary_us: Measured
    mail_replica_us: Measured
    event_bytes: Measured
    order_bytes: Measured
    invoice_bytes: Measured
    wal_event_bytes: Measured
    wal_message_bytes: Measured
    transaction_ms: Measured
    idle_p99_ms: Measured
    turn_ms: Measured
    saturation_share: Measured
    failover_s: Measured
    moved_rows_per_s: Measured
    moved_pause_ms: Measured
    consumer_rss_mb: Measured
    sender_rss_mb: Measured


def load_costs(path: Path = SHIPPED) -> CostVector:
    """Read a cost vector. Raises SettingsError naming the file and the key."""
    costs = read_toml(path, CostVector)
    bad = [
        f"{path}: {name}.value must be a number of 0 or more, not {getattr(costs, name).value}"
        for name in CostVector.__struct_fields__
        if not 0 <= getattr(costs, name).value < math.inf
    ]
    if not costs.broker_wakings_per_s.value:
        bad.append(f"{path}: broker_wakings_per_s.value must be above 0")
    if not 0 < costs.saturation_share.value <= 1:
        bad.append(f"{path}: saturation_share.value must be above 0 and at most 1")
    if bad:
        raise SettingsError(bad)
    return costs


def estimated(costs: CostVector) -> list[str]:
    """Return the names of figures that nothing has measured."""
    return [name for name in CostVector.__struct_fields__ if not getattr(costs, name).command]
