"""The sizing that the design starts from, and the same with the measured costs beside it.

Stated: 4 cores serve 23,000 orders/s, so 174 µs of CPU for an order; 10 M orders/s and 30 TB need about 420
machines with 72 GB each. That is 168 µs and 71 GB with every core busy all the time and one copy of the data.
"""

from math import ceil

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.loads import cores_busy, event_cost

STATED_CORES = 4
STATED_ORDERS_PER_S = 23_000.0
STATED_DATA_BYTES = 30e12
STATED_DISK_BYTES = 72e9
READINGS = {"10 M orders/s": 1e7, "10 M orders/min": 1e7 / 60}
PUBLISHED_TOGETHER = 50
"""Events in a message, where messages hold several: as benchmarked."""


class SizingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One cost under one reading. `machines`: the more of what CPU and data need."""

    reading: str
    cost: str
    cpu_us: float
    orders_per_s_of_machine: float
    machines_by_cpu: int
    machines_by_data: int

    @property
    def machines(self) -> int:
        """What both need."""
        return max(self.machines_by_cpu, self.machines_by_data)


def reference_rows(costs: CostVector, given: Assumptions) -> list[SizingRow]:
    """Return the rows, by reading, the stated one first."""
    return [
        _row(reading, per_s, name, cpu_us, busy, copies)
        for reading, per_s in READINGS.items()
        for name, cpu_us, busy, copies in _costs(costs, given)
    ]


def _costs(costs: CostVector, given: Assumptions) -> list[tuple[str, float, float, int]]:
    """Return what is costed: name, µs per order, how busy the cores may be, copies of the data.

    Each `+` comes on top of the line above.
    """
    batch = given.settings.batch_max
    single, together = (
        event_cost(costs, batch=batch, events_per_message=events).total for events in (1, PUBLISHED_TOGETHER)
    )
    busy, copies = given.utilisation.planned_share, given.postgresql.copies
    events = Demand(orders_per_s=1.0, events_per_message=PUBLISHED_TOGETHER, sms_share=0.0, mail_share=0.0)
    whole = Demand(orders_per_s=1.0, events_per_message=PUBLISHED_TOGETHER)
    stored, sent = (sum(cores_busy(one, costs, given, batch).values()) * 1e6 for one in (events, whole))
    return [
        ("stated", STATED_CORES * 1e6 / STATED_ORDERS_PER_S, 1.0, 1),
        ("measured, single events", single, 1.0, 1),
        (f"measured, {PUBLISHED_TOGETHER} together", together, 1.0, 1),
        (f"+ {busy:.0%} busy, {copies} copies", together, busy, copies),
        (f"+ invoice, {given.broker.quorum} broker nodes", stored, busy, copies),
        ("+ SMS and mails", sent, busy, copies),
    ]


def _row(  # noqa: PLR0917  # one row's cells
    reading: str, per_s: float, cost: str, cpu_us: float, busy: float, copies: int
) -> SizingRow:
    of_machine = STATED_CORES * busy * 1e6 / cpu_us
    return SizingRow(
        reading=reading,
        cost=cost,
        cpu_us=round(cpu_us, 1),
        orders_per_s_of_machine=round(of_machine),
        machines_by_cpu=ceil(per_s / of_machine),
        machines_by_data=ceil(STATED_DATA_BYTES * copies / STATED_DISK_BYTES),
    )
