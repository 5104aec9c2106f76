"""What the first steps of a ramp say of this machine on this day: its costs beside those of the vector."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.loads import EQUIPMENT, Part
from loadtest.planning.prediction import Here, by_vector, this_machine, with_full_sets
from loadtest.scenarios.figures import PhaseFigures
from loadtest.scenarios.scenario import Part as Process

_SERVERS: Mapping[Part, Callable[[str], bool]] = {
    Part.BROKER: lambda name: name == "rabbitmq",
    Part.CONSUMERS: lambda name: name == Process.INTAKE,
    Part.PRIMARIES: lambda name: name.endswith("-primary"),
    Part.REPLICAS: lambda name: name.endswith("-replica"),
    Part.SMS: lambda name: name == Process.SENDER,
}
_TIMES_MIN = 0.5


def measured_us(phase: PhaseFigures) -> dict[Part, float]:
    """Return the CPU µs per order that each part used in a phase. Both senders are one process: `SMS`."""
    return {part: _cores(phase, is_of) / _rate(phase) * 1e6 for part, is_of in _SERVERS.items()}


def predicted_us(part_us: Mapping[Part, float]) -> dict[Part, float]:
    """Return a prediction by the same parts."""
    return {part: part_us[part] + (part_us[Part.MAIL] if part is Part.SMS else 0.0) for part in _SERVERS}


def beside_the_pipeline(steps: Sequence[PhaseFigures]) -> Here:
    """Return this machine with what the test itself and other programs used in the steps, the lowest first.

    The test's own CPU is a straight line through the first step and the last.
    """
    first, last = steps[0], steps[-1]
    low, high = (_cores(step, lambda name: name in EQUIPMENT) for step in (first, last))
    more = _rate(last) - _rate(first)
    each = min(max(0.0, (high - low) / more), high / _rate(last)) if more > 0 else high / _rate(last)
    others = median(max(0.0, step.machine_cores - sum(step.cores.values())) for step in steps)
    return msgspec.structs.replace(
        this_machine(each * 1e6),
        equipment_cores=high - each * _rate(last),
        other_cores=others,
    )


def calibrated(
    demand: Demand, costs: CostVector, given: Assumptions, here: Here, steps: Sequence[PhaseFigures]
) -> Here:
    """Return the machine so that it uses what the steps measured of each part's CPU.

    A part's cores are taken as `times` the vector's, and `idle_cores` by how idle the CPUs are: the less
    there is to do, the smaller the sets it is done in. Two steps tell both. How costs follow rate and batch
    size stays the model's, and so does what full sets cost.
    """
    times, idle_cores = {}, {}
    points = [_Point.of(demand, costs, given, here, step) for step in steps]
    for part in _SERVERS:
        readings = [(point.counted[part], point.idle, point.used[part]) for point in points]
        times[part], idle_cores[part] = _fit(readings)
    times[Part.MAIL] = times[Part.SMS]
    return msgspec.structs.replace(here, times=times, idle_cores=idle_cores)


class _Point(NamedTuple):
    """A step: cores by part as counted by the vector and as used, and what share of the CPUs we left idle."""

    counted: Mapping[Part, float]
    used: Mapping[Part, float]
    idle: float

    @classmethod
    def of(
        cls, demand: Demand, costs: CostVector, given: Assumptions, here: Here, step: PhaseFigures
    ) -> "_Point":
        busy = min(1.0, sum(step.cores.values()) / here.cores)
        least = with_full_sets(demand, costs, given, _rate(step))
        load = (sum(least.values()) + here.beside_cores(_rate(step))) / here.usable_cores
        _, counted = by_vector(demand, costs, given, _rate(step), load)
        used = {part: micros * _rate(step) / 1e6 for part, micros in measured_us(step).items()}
        return cls(predicted_us(counted), used, 1 - busy)


def _fit(readings: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Return x and y of `used = x * counted + y * idle`: x within reason, y 0 or more. One reading: y 0."""
    counted, idle, used = readings[-1]
    if counted <= 0 or used <= 0:
        return 1.0, 0.0
    times = used / counted
    if len(readings) > 1:
        before, idle_before, used_before = readings[0]
        determinant = before * idle - counted * idle_before
        if determinant:
            times = (used_before * idle - used * idle_before) / determinant
    times = min(max(times, _TIMES_MIN), used / counted)
    return times, (used - times * counted) / idle if idle > 0 else 0.0


def _cores(phase: PhaseFigures, is_of: Callable[[str], bool]) -> float:
    return sum(used for name, used in phase.cores.items() if is_of(name))


def _rate(phase: PhaseFigures) -> float:
    return max(1e-9, phase.orders_per_s)
