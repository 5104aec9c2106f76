"""What one machine with everything on it does at a rate: the model, turned on where it was measured."""

import os
from collections.abc import Callable, Mapping

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.latency import MEASURED_LINGER_S, p99_s
from loadtest.planning.loads import FULL_SHARE, Part, cores_busy, formed_batch, transaction_s

SHARDS_HERE = 2
_PROCESSES = {Part.PRIMARIES: SHARDS_HERE, Part.REPLICAS: SHARDS_HERE}
_APART = tuple(part for part in Part if part not in (Part.SMS, Part.MAIL))
_ENOUGH = 1 - 1e-6
_ROUNDS = 40
_LOAD_MOST = 0.98


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """This machine, what else it does, and how costs differ here.

    The test's own load is `equipment_us`, CPU µs per order, and `equipment_cores` whatever the rate: of
    generator, observer and stand-ins. `other_cores`: of programs that have nothing to do with it. `times`:
    by how much a part costs more or less than the vector says while there is CPU to spare. `idle_cores`:
    what a part would use on top if all CPUs were idle, because it works in smaller sets.
    """

    cores: int
    equipment_us: float
    equipment_cores: float = 0.0
    other_cores: float = 0.0
    times: Mapping[Part, float] = {}
    idle_cores: Mapping[Part, float] = {}

    @property
    def usable_cores(self) -> float:
        """What of the machine the pipeline and the test can use together."""
        return FULL_SHARE * self.cores - self.other_cores

    def beside_cores(self, rate: float) -> float:
        """Return what the test itself uses at a rate of orders."""
        return rate * self.equipment_us / 1e6 + self.equipment_cores


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What is predicted at a rate. `busy_share`: by the pipeline and the test. `part_us`: CPU per order.

    `load_share`: of what can be done here with full sets; 1 and above: more than that. `thread_share`: of the
    busiest process, with full sets. `is_starved`: some part gets less CPU than full sets need.
    """

    orders_per_s: float
    busy_share: float
    load_share: float
    thread_share: float
    is_starved: bool
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
    beside = here.beside_cores(rate)
    least = with_full_sets(demand, costs, given, rate)
    load = (sum(least.values()) + beside) / here.usable_cores
    batch, counted = by_vector(demand, costs, given, rate, load)

    def used_when(busy: float) -> dict[Part, float]:
        idle = max(0.0, 1 - busy)
        return {
            part: used * here.times.get(part, 1.0) + idle * here.idle_cores.get(part, 0.0)
            for part, used in counted.items()
        }

    wanted = used_when(_where_it_fits(lambda busy: (sum(used_when(busy).values()) + beside) / here.cores))
    got = fair_shares(wanted, here.usable_cores - beside)
    return Point(
        orders_per_s=rate,
        busy_share=min(sum(wanted.values()) + beside, max(here.usable_cores, sum(least.values()) + beside))
        / here.cores,
        load_share=load,
        thread_share=max(least[Part.CONSUMERS], least[Part.SMS] + least[Part.MAIL]),
        is_starved=any(got[part] < _ENOUGH * least[part] for part in got),
        p99_s=p99_s(costs, MEASURED_LINGER_S, here.cores, load),
        batch=batch,
        part_us={part: max(got[part], least[part]) / rate * 1e6 for part in got},
    )


def _where_it_fits(led_to: Callable[[float], float]) -> float:
    """Return how busy the CPUs are: as busy as that leads to. The busier they are, the less things cost."""
    low, high = 0.0, led_to(0.0)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if led_to(middle) > middle else (low, middle)
    return high


def fair_shares(wanted: Mapping[Part, float], room: float) -> dict[Part, float]:
    """Return what the parts get of so many cores, as a fair scheduler shares them out among processes.

    Who wants less than the others gets it; what is left is shared equally by those who want more. So it is
    the busiest process that gives way: its sets grow, while those of the others stay as small as they were.
    """
    groups = [(1, (Part.SMS, Part.MAIL)), *((_PROCESSES.get(part, 1), (part,)) for part in _APART)]
    of_each = {parts: sum(wanted[part] for part in parts) / count for count, parts in groups}
    low, high = 0.0, max(of_each.values())
    if sum(wanted.values()) > room:
        for _ in range(_ROUNDS):
            level = (low + high) / 2
            used = sum(count * min(level, of_each[parts]) for count, parts in groups)
            low, high = (low, level) if used > room else (level, high)
    return {
        part: wanted[part] * min(1.0, high / of_each[parts]) if of_each[parts] else 0.0
        for _, parts in groups
        for part in parts
    }


def with_full_sets(demand: Demand, costs: CostVector, given: Assumptions, rate: float) -> dict[Part, float]:
    """Return cores by part with transactions as large as the p99 wanted allows, and a broker never at rest.

    What comes during half of that time is in a transaction: the other half is its own.
    """
    scaled = msgspec.structs.replace(demand, orders_per_s=rate)
    batch = formed_batch(
        scaled.events_per_s / SHARDS_HERE,
        demand.p99_s / 2,
        0.0,
        in_flight=given.settings.batches_in_flight,
        batch_max=given.settings.batch_max,
    )
    return cores_busy(scaled, costs, _of_one_broker(given), batch)


def by_vector(
    demand: Demand, costs: CostVector, given: Assumptions, rate: float, load_share: float
) -> tuple[float, dict[Part, float]]:
    """Return events in a transaction, and cores by part, by the vector alone, in the sets that form."""
    scaled = msgspec.structs.replace(demand, orders_per_s=rate)
    batch = formed_batch(
        scaled.events_per_s / SHARDS_HERE,
        MEASURED_LINGER_S,
        transaction_s(costs, min(load_share, _LOAD_MOST)),
        in_flight=given.settings.batches_in_flight,
        batch_max=given.settings.batch_max,
    )
    return batch, cores_busy(scaled, costs, _of_one_broker(given), batch, brokers=1)


def _of_one_broker(given: Assumptions) -> Assumptions:
    return msgspec.structs.replace(given, broker=msgspec.structs.replace(given.broker, follower_share=0.0))


def knee_here(demand: Demand, costs: CostVector, given: Assumptions, here: Here) -> Knee:
    """Return the predicted knee, by halving."""
    limits: dict[str, Callable[[Point], bool]] = {
        "CPU of the machine": lambda point: point.is_starved or point.load_share >= 1,
        "one process's thread": lambda point: point.thread_share > costs.saturation_share.value,
        "the p99 wanted": lambda point: point.p99_s > demand.p99_s,
    }
    low, high, limit = 0.0, 1e6, "CPU of the machine"
    while high - low > max(0.01, 0.001 * low):
        middle = (low + high) / 2
        point = point_at(demand, costs, given, here, middle)
        broken = [name for name, is_over in limits.items() if is_over(point)]
        low, high = (low, middle) if broken else (middle, high)
        limit = broken[0] if broken else limit
    return Knee(orders_per_s=low, limit=limit)
