"""From publish to committed: the time that 99 % of events keep to, by how loaded the machines are."""

from loadtest.planning.costs import CostVector
from loadtest.planning.queueing import waiting_s

MEASURED_LINGER_S = 0.005
"""`intake.batch_linger_ms` when `idle_p99_ms` was measured; it is part of that time."""
_SHARE = 0.99


def idle_s(costs: CostVector, linger_s: float) -> float:
    """Return the p99 with idle CPUs: round trips, the commit on the replica, and the linger time."""
    return max(0.0, costs.idle_p99_ms.value / 1000 - MEASURED_LINGER_S) + linger_s


def p99_s(costs: CostVector, linger_s: float, cores: int, load_share: float) -> float:
    """Return the p99 under load: idle time, and waiting for a turn on a machine of so many cores.

    `load_share`: of what the machine can do. It may be busier than that, in smaller sets.
    """
    return idle_s(costs, linger_s) + waiting_s(costs.turn_ms.value / 1000, cores, load_share, _SHARE)
