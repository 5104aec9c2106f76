"""What the first steps of a ramp say of this machine on this day: its costs beside those of the vector."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.loads import Part
from loadtest.planning.prediction import FULL_SHARE, Here, point_at, this_machine
from loadtest.planning.queueing import service_from_waiting_s
from loadtest.scenarios.figures import PhaseFigures
from loadtest.scenarios.scenario import Part as Process

_EQUIPMENT = ("generator", "observer", "twilio_emulator", "smtp_sink")
_SERVERS: Mapping[Part, Callable[[str], bool]] = {
    Part.BROKER: lambda name: name == "rabbitmq",
    Part.CONSUMERS: lambda name: name == Process.INTAKE,
    Part.PRIMARIES: lambda name: name.endswith("-primary"),
    Part.REPLICAS: lambda name: name.endswith("-replica"),
    Part.SMS: lambda name: name == Process.SENDER,
}
_ROUNDS = 20


def measured_us(phase: PhaseFigures) -> dict[Part, float]:
    """Return the CPU µs per order that each part used in a phase. Both senders are one process: `SMS`."""
    return {part: _cores(phase, is_of) / _rate(phase) * 1e6 for part, is_of in _SERVERS.items()}


def predicted_us(part_us: Mapping[Part, float]) -> dict[Part, float]:
    """Return a prediction by the same parts."""
    return {part: part_us[part] + (part_us[Part.MAIL] if part is Part.SMS else 0.0) for part in _SERVERS}


def beside_the_pipeline(costs: CostVector, steps: Sequence[PhaseFigures]) -> Here:
    """Return this machine with what the test itself and other programs used in the steps, the lowest first.

    The test's own CPU is a straight line through the first step and the last.
    """
    first, last = steps[0], steps[-1]
    low, high = (_cores(step, lambda name: name in _EQUIPMENT) for step in (first, last))
    more = _rate(last) - _rate(first)
    each = min(max(0.0, (high - low) / more), high / _rate(last)) if more > 0 else high / _rate(last)
    others = median(max(0.0, step.machine_cores - sum(step.cores.values())) for step in steps)
    return msgspec.structs.replace(
        this_machine(costs, each * 1e6),
        equipment_cores=high - each * _rate(last),
        other_cores=others,
    )


def calibrated(
    demand: Demand, costs: CostVector, given: Assumptions, here: Here, step: PhaseFigures
) -> tuple[CostVector, Here]:
    """Return vector and machine so that they give what a step measured: each part's CPU, and the p99.

    The parts' costs all change by a factor, so how they follow rate and batch size stays the model's.
    """
    found = msgspec.structs.replace(here, saturation_share=FULL_SHARE)
    want = measured_us(step)
    for _ in range(_ROUNDS):  # dearer parts make a busier machine, and that larger batches
        have = predicted_us(point_at(demand, costs, given, found, _rate(step)).part_us)
        times = {
            part: found.times.get(part, 1.0) * want[part] / have[part]
            for part in _SERVERS
            if have[part] > 0 and want[part] > 0
        }
        if Part.SMS in times:
            times[Part.MAIL] = times[Part.SMS]
        found = msgspec.structs.replace(found, times=times)
    wait_s = max(0.0, step.latencies["committed"].p99_ms - costs.idle_p99_ms.value) / 1000
    busy = min(step.machine_cores / here.cores, FULL_SHARE)
    turn_ms = service_from_waiting_s(wait_s, here.cores, busy, 0.99) * 1000
    turn = msgspec.structs.replace(costs.turn_ms, value=turn_ms, by_busy=[])
    return msgspec.structs.replace(costs, turn_ms=turn), found


def _cores(phase: PhaseFigures, is_of: Callable[[str], bool]) -> float:
    return sum(used for name, used in phase.cores.items() if is_of(name))


def _rate(phase: PhaseFigures) -> float:
    return max(1e-9, phase.orders_per_s)
