"""What one machine with everything on it does at a rate: the model, turned on where it was measured."""

import os
from collections.abc import Callable

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.latency import MEASURED_LINGER_S, p99_s
from loadtest.planning.loads import Part, cores_busy, formed_batch, transaction_s

SHARDS_HERE = 2
_ROUNDS = 60
_BUSY_MOST = 0.98


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """This machine, and the test's own load: CPU µs per order of generator, observer and stand-ins."""

    cores: int
    equipment_us: float


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What is predicted at a rate. `part_us`: CPU per order; `thread_share`: of the busiest process."""

    orders_per_s: float
    busy_share: float
    thread_share: float
    p99_s: float
    batch: float
    part_us: dict[Part, float]


class Knee(msgspec.Struct, frozen=True, kw_only=True):
    """The highest rate at which the p99 is kept and nothing is overloaded, and what would give out."""

    orders_per_s: float
    limit: str


def this_machine(equipment_us: float) -> Here:
    """Return the machine that this runs on."""
    return Here(cores=os.cpu_count() or 1, equipment_us=equipment_us)


def point_at(demand: Demand, costs: CostVector, given: Assumptions, here: Here, rate: float) -> Point:
    """Return what is predicted at a rate of orders, with the demand's shares and a broker of one node."""
    alone = msgspec.structs.replace(given.broker, follower_share=0.0)
    given = msgspec.structs.replace(given, broker=alone)
    scaled = msgspec.structs.replace(demand, orders_per_s=rate)
    busy, batch, cores = 0.5, 1.0, dict.fromkeys(Part, 0.0)
    for _ in range(_ROUNDS):
        batch = formed_batch(
            scaled.events_per_s / SHARDS_HERE,
            MEASURED_LINGER_S,
            transaction_s(costs, min(busy, _BUSY_MOST)),
            in_flight=given.settings.batches_in_flight,
            batch_max=given.settings.batch_max,
        )
        cores = cores_busy(scaled, costs, given, batch)
        used = sum(cores.values()) + rate * here.equipment_us / 1e6
        busy = (busy + used / here.cores) / 2
    threads = (cores[Part.CONSUMERS], cores[Part.SMS] + cores[Part.MAIL])
    return Point(
        orders_per_s=rate,
        busy_share=busy,
        thread_share=max(threads),
        p99_s=p99_s(costs, MEASURED_LINGER_S, here.cores, busy),
        batch=batch,
        part_us={part: used / rate * 1e6 for part, used in cores.items()},
    )


def knee_here(demand: Demand, costs: CostVector, given: Assumptions, here: Here) -> Knee:
    """Return the predicted knee, by halving."""
    limits: dict[str, Callable[[Point], bool]] = {
        "CPU of the machine": lambda point: point.busy_share > costs.saturation_share.value,
        "one process's thread": lambda point: point.thread_share > costs.saturation_share.value,
        "the p99 wanted": lambda point: point.p99_s > demand.p99_s,
    }
    low, high, limit = 0.0, 1e6, ""
    while high - low > max(0.01, 0.001 * low):
        middle = (low + high) / 2
        point = point_at(demand, costs, given, here, middle)
        broken = [name for name, is_over in limits.items() if is_over(point)]
        low, high = (low, middle) if broken else (middle, high)
        limit = broken[0] if broken else limit
    return Knee(orders_per_s=low, limit=limit)
