"""`postorder plan --verify`: the predicted knee of this machine against a ramp of the real pipeline on it."""

import math
from collections.abc import Callable
from pathlib import Path

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.loads import Part
from loadtest.planning.prediction import Here, knee_here, point_at, this_machine
from loadtest.scenarios.figures import PhaseFigures
from loadtest.scenarios.report import Report
from loadtest.scenarios.scenario import LoadTestError, Mix, Phase, Ramp, Scenario
from loadtest.scenarios.scenario import Part as Process

ERROR_MAX = 0.15
"""How far off a prediction may be, as a share."""
STEPS = (0.4, 0.6, 0.75, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0)
"""Rates of the ramp, as shares of the predicted knee."""
EQUIPMENT_US = {False: 60.0, True: 800.0}
"""First guess at the test's own CPU for an order, without and with messages: it only places the steps."""
_STEP_S = 12.0
_WARM_UP_S = 6.0
_EQUIPMENT = ("generator", "observer", "twilio_emulator", "smtp_sink")
_SERVERS = {
    Part.BROKER: lambda name: name == "rabbitmq",
    Part.CONSUMERS: lambda name: name == Process.INTAKE,
    Part.PRIMARIES: lambda name: name.endswith("-primary"),
    Part.REPLICAS: lambda name: name.endswith("-replica"),
    Part.SMS: lambda name: name == Process.SENDER,
}


class StepError(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the ramp: predicted and measured."""

    orders_per_s: float
    kept_up: bool
    busy_predicted: float
    busy_measured: float
    p99_predicted_ms: float
    p99_measured_ms: float


class PartError(msgspec.Struct, frozen=True, kw_only=True):
    """CPU µs for an order by part, at the highest step kept up with. Both senders are one process."""

    part: str
    predicted_us: float
    measured_us: float


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The knee in orders per second: predicted, measured; `error` as a share of the measured one.

    `limit`: what the prediction says gives out; `gave_out`: what did. `equipment_us`: CPU for an order of the
    test itself, measured in the first step; the prediction leaves room for it.
    """

    at: str
    machine: str
    command: str
    demand: Demand
    equipment_us: float
    knee_predicted: float
    knee_measured: float
    error: float
    limit: str
    gave_out: str
    steps: list[StepError]
    parts: list[PartError]
    problems: list[str]

    @property
    def within(self) -> bool:
        """Whether the prediction is as good as it should be, and the run was valid."""
        return not self.problems and abs(self.error) <= ERROR_MAX


def demand_here(demand: Demand) -> Demand:
    """Return what a load test can publish of a demand: single events, every order with both messages or none.

    Invoices come up to seconds after their order and the grace window is 0, so each gets a mail of its own.
    """
    sends = demand.sms_share > 0 or demand.mail_share > 0
    share = 1.0 if sends else 0.0
    return msgspec.structs.replace(
        demand, sms_share=share, mail_share=share, late_share=1.0, events_per_message=1, data_bytes=0.0
    )


def scenario_for(demand: Demand, knee_per_s: float) -> Scenario:
    """Return a ramp around the predicted knee."""
    sends = demand.sms_share > 0
    warm_up = Phase(name="warm-up", seconds=_WARM_UP_S, load=STEPS[0] / 2, measured=False)
    steps = tuple(
        Phase(name=f"step-{number:02d}", seconds=_STEP_S, load=load) for number, load in enumerate(STEPS)
    )
    return Scenario(
        name="plan-verify",
        purpose="the knee that a plan predicts",
        rate_per_s=knee_per_s,
        phases=(warm_up, *steps),
        mix=Mix(invoices=demand.invoice_share, duplicates=0, bad=0),
        parts=(Process.INTAKE, Process.SENDER) if sends else (Process.INTAKE,),
        settings={"POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": "0"},
        ramp=Ramp(p99_ms_max=demand.p99_s * 1000),
    )


def verify(
    demand: Demand,
    costs: CostVector,
    given: Assumptions,
    run: Callable[[Scenario, Path], Report],
    folder: Path,
) -> Verification:
    """Run a ramp and compare. `run` carries a scenario out on a stack of its own. Raises LoadTestError."""
    demand = demand_here(demand)
    guess = knee_here(demand, costs, given, this_machine(EQUIPMENT_US[demand.sms_share > 0]))
    report = run(scenario_for(demand, guess.orders_per_s), folder)
    return compare(demand, costs, given, report)


def compare(demand: Demand, costs: CostVector, given: Assumptions, report: Report) -> Verification:
    """Return predictions beside what a ramp measured. Raises LoadTestError when nothing was measured."""
    phases = [phase for phase in report.phases if phase.measured and "committed" in phase.latencies]
    if not phases or report.knee is None:
        raise LoadTestError("the ramp measured no step: see var/loadtest")
    equipment_us = _micros(phases[0], lambda name: name in _EQUIPMENT)
    here = this_machine(equipment_us)
    predicted = knee_here(demand, costs, given, here)
    broken = {step.name: "; ".join(step.broken) for step in report.knee.steps}
    measured = measured_knee(phases, broken, demand.p99_s * 1000)
    held = [phase for phase in phases if not broken.get(phase.name)] or phases[:1]
    return Verification(
        at=report.at,
        machine=report.machine,
        command=report.command,
        demand=demand,
        equipment_us=round(equipment_us, 1),
        knee_predicted=round(predicted.orders_per_s, 1),
        knee_measured=round(measured, 1),
        error=round(predicted.orders_per_s / measured - 1, 4) if measured else math.inf,
        limit=predicted.limit,
        gave_out=next((why for why in broken.values() if why), "nothing: the knee is higher"),
        steps=[_step(phase, broken, demand, costs, given, here) for phase in phases],
        parts=_parts(held[-1], demand, costs, given, here),
        problems=[*report.problems, *report.invalid_because],
    )


def measured_knee(phases: list[PhaseFigures], broken: dict[str, str], p99_ms: float) -> float:
    """Return the rate between the last step kept and the first not: where log p99 crosses the limit.

    Half way when it is not the p99 that broke. The last step's rate when none broke; 0 when the first did.
    """
    first = next((number for number, phase in enumerate(phases) if broken.get(phase.name)), len(phases))
    if first == 0:
        return 0.0
    kept = phases[first - 1]
    if first == len(phases):
        return kept.orders_per_s
    lost = phases[first]
    below, above = (phase.latencies["committed"].p99_ms for phase in (kept, lost))
    share = 0.5
    if above > p99_ms > below > 0:
        share = math.log(p99_ms / below) / math.log(above / below)
    return kept.orders_per_s + share * (lost.orders_per_s - kept.orders_per_s)


def _micros(phase: PhaseFigures, is_of: Callable[[str], bool]) -> float:
    cores = sum(used for name, used in phase.cores.items() if is_of(name))
    return cores / max(1e-9, phase.orders_per_s) * 1e6


def _step(  # noqa: PLR0917  # one row's cells
    phase: PhaseFigures,
    broken: dict[str, str],
    demand: Demand,
    costs: CostVector,
    given: Assumptions,
    here: Here,
) -> StepError:
    point = point_at(demand, costs, given, here, phase.orders_per_s)
    return StepError(
        orders_per_s=phase.orders_per_s,
        kept_up=not broken.get(phase.name),
        busy_predicted=round(point.busy_share, 3),
        busy_measured=round(phase.machine_cores / here.cores, 3),
        p99_predicted_ms=round(point.p99_s * 1000, 1) if math.isfinite(point.p99_s) else math.inf,
        p99_measured_ms=phase.latencies["committed"].p99_ms,
    )


def _parts(
    phase: PhaseFigures, demand: Demand, costs: CostVector, given: Assumptions, here: Here
) -> list[PartError]:
    point = point_at(demand, costs, given, here, phase.orders_per_s)
    predicted = {part: point.part_us[part] for part in _SERVERS}
    predicted[Part.SMS] += point.part_us[Part.MAIL]
    return [
        PartError(
            part="senders" if part is Part.SMS else str(part),
            predicted_us=round(micros, 1),
            measured_us=round(_micros(phase, _SERVERS[part]), 1),
        )
        for part, micros in predicted.items()
    ]
