"""The cost vector: what each part of the system spends on an event or a message, as measured.

It is data (`costs.toml`), each figure with the command that measured it. `python -m loadtest.planning costs`
writes it anew from what the benchmarks left in var/bench.
"""

import math
from bisect import bisect_left
from operator import itemgetter
from pathlib import Path

import msgspec

from loadtest.planning.toml_file import read_toml
from pipeline.errors import SettingsError

SHIPPED = Path(__file__).with_name("costs.toml")


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure and where it comes from.

    `command` is what measures it; empty: nothing does yet, it is an estimate, and plans say so. `note` says
    how it follows from what the command prints. `by_busy`: the figure by how busy the CPUs were, in pairs
    with rising shares; empty: `value` holds for all.
    """

    value: float
    unit: str
    command: str
    at: str = ""
    machine: str = ""
    note: str = ""
    by_busy: list[tuple[float, float]] = []

    def at_busy(self, share: float) -> float:
        """Return the figure at a utilisation: straight lines between what was measured, level beyond."""
        if not self.by_busy:
            return self.value
        place = bisect_left(self.by_busy, share, key=itemgetter(0))
        if place in {0, len(self.by_busy)}:
            return self.by_busy[min(place, len(self.by_busy) - 1)][1]
        (below, low), (above, high) = self.by_busy[place - 1 : place + 1]
        return low + (high - low) * (share - below) / (above - below)


class CostVector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Microseconds of CPU, bytes and times.

    What an event costs is the cost of an event, plus that of a message by the events in it, plus that of a
    transaction by the events in it. `broker_idle_message_us` comes on top with idle CPUs, when the broker is
    woken for each message singly, and goes to 0 at full load. `sms_` and `mail_` are for one message sent.
    `turn_ms` is the service time that makes the queueing formula give the measured latency.
    `saturation_share` is how busy the CPUs are when no more goes through.
    """

    broker_event_us: Measured
    broker_message_us: Measured
    broker_idle_message_us: Measured
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
    if not 0 < costs.saturation_share.value <= 1:
        bad.append(f"{path}: saturation_share.value must be above 0 and at most 1")
    for name in CostVector.__struct_fields__:
        pairs = getattr(costs, name).by_busy
        shares = [share for share, _ in pairs]
        if shares != sorted(set(shares)) or not all(0 <= figure < math.inf for _, figure in pairs):
            bad.append(f"{path}: {name}.by_busy must be pairs of rising shares and numbers of 0 or more")
    if bad:
        raise SettingsError(bad)
    return costs


def estimated(costs: CostVector) -> list[str]:
    """Return the names of figures that nothing has measured."""
    return [name for name in CostVector.__struct_fields__ if not getattr(costs, name).command]
