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
from loadtest.planning.session import beside_the_pipeline, calibrated, measured_us, predicted_us
from loadtest.scenarios.figures import PhaseFigures
from loadtest.scenarios.report import Report
from loadtest.scenarios.scenario import LoadTestError, Mix, Phase, Ramp, Scenario
from loadtest.scenarios.scenario import Part as Process

ERROR_MAX = 0.15
"""How far off a prediction may be, as a share."""
OTHERS_MAX = 0.15
"""Share of the machine that may go to other programs: the kernel's own threads are among them."""
CALIBRATING = (0.2, 0.45)
"""Rates of the first steps, as shares of the knee that the vector gives: what they cost is measured there."""
SEARCHING = (0.55, 0.65, 0.75, 0.84, 0.93, 1.03, 1.14, 1.27, 1.45, 1.7, 2.0)
"""Rates of the steps that look for the knee. The ramp ends at the one where work piles up."""
EQUIPMENT_US = {False: 60.0, True: 800.0}
"""First guess at the test's own CPU for an order, without and with messages: it only places the steps."""
_CALIBRATING_S, _SEARCHING_S, _WARM_UP_S = 15.0, 8.0, 8.0
_RAMPS = {
    False: Ramp(lag_s_max=1.0, give_up_lag_s=5.0),
    True: Ramp(lag_s_max=2.0, give_up_lag_s=6.0),
}


class StepError(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the ramp: predicted and measured. `busy_` is by the pipeline and the test alone."""

    orders_per_s: float
    kept_up: bool
    busy_predicted: float
    busy_measured: float
    p99_predicted_ms: float
    p99_measured_ms: float


class PartError(msgspec.Struct, frozen=True, kw_only=True):
    """CPU µs for an order by part, at the highest step kept up with. Both senders are one process.

    `calibrated_us`: predicted with what the first steps measured.
    """

    part: str
    predicted_us: float
    calibrated_us: float
    measured_us: float


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The knee in orders per second: predicted by the cost vector, and measured.

    `limit`: what gives out there by the prediction, `gave_out` by the ramp; `error`: as a share of the
    measured one. `equipment_us` and `equipment_cores`: CPU of the test itself, for an order and whatever the
    rate; `other_cores`: of other programs. The prediction leaves room for these.
    """

    at: str
    machine: str
    command: str
    demand: Demand
    equipment_us: float
    equipment_cores: float
    other_cores: float
    knee_predicted: float
    limit: str
    knee_measured: float
    error: float
    gave_out: str
    steps: list[StepError]
    parts: list[PartError]
    problems: list[str]

    @property
    def within(self) -> bool:
        """Whether the prediction is as good as it should be, and the run was valid."""
        return not self.problems and abs(self.error) <= ERROR_MAX


def demand_here(demand: Demand) -> Demand:
    """Return what a load test can publish of a demand: single events, without data that is there before.

    Invoices come up to seconds after their order and the grace window is 0, so each gets a mail of its own.
    """
    return msgspec.structs.replace(demand, late_share=1.0, events_per_message=1, data_bytes=0.0)


def _sends(demand: Demand) -> bool:
    return demand.sms_share > 0 or demand.mail_share > 0


def scenario_for(demand: Demand, knee_per_s: float) -> Scenario:
    """Return a ramp around the predicted knee."""
    sends = _sends(demand)
    warm_up = Phase(name="warm-up", seconds=_WARM_UP_S, load=CALIBRATING[0] / 2, measured=False)
    lengths = [(load, _CALIBRATING_S) for load in CALIBRATING] + [(load, _SEARCHING_S) for load in SEARCHING]
    steps = tuple(
        Phase(name=f"step-{number:02d}", seconds=seconds, load=load)
        for number, (load, seconds) in enumerate(lengths)
    )
    return Scenario(
        name="plan-verify",
        purpose="the knee that a plan predicts",
        rate_per_s=knee_per_s,
        phases=(warm_up, *steps),
        mix=Mix(
            invoices=demand.invoice_share,
            duplicates=0,
            bad=0,
            sms_share=demand.sms_share,
            mail_share=demand.mail_share,
        ),
        parts=(Process.INTAKE, Process.SENDER) if sends else (Process.INTAKE,),
        settings={"POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": "0"},
        ramp=msgspec.structs.replace(_RAMPS[sends], p99_ms_max=demand.p99_s * 1000),
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
    guess = knee_here(demand, costs, given, this_machine(EQUIPMENT_US[_sends(demand)]))
    report = run(scenario_for(demand, guess.orders_per_s), folder)
    return compare(demand, costs, given, report)


def compare(demand: Demand, costs: CostVector, given: Assumptions, report: Report) -> Verification:
    """Return what was predicted beside what a ramp measured. Raises LoadTestError when that is nothing."""
    phases = [phase for phase in report.phases if phase.measured and "committed" in phase.latencies]
    if not phases or report.knee is None:
        raise LoadTestError("the ramp measured no step: see var/plan/plan-verify")
    broken = {step.name: "; ".join(step.broken) for step in report.knee.steps}
    calm = phases[: len(CALIBRATING)]
    here = beside_the_pipeline(calm)
    as_measured = calibrated(demand, costs, given, here, calm)
    knee = knee_here(demand, costs, given, here)
    measured = measured_knee(phases, broken, demand.p99_s * 1000)
    held = [phase for phase in phases if not broken.get(phase.name)] or phases[:1]
    return Verification(
        at=report.at,
        machine=report.machine,
        command=report.command,
        demand=demand,
        equipment_us=round(here.equipment_us, 1),
        equipment_cores=round(here.equipment_cores, 3),
        other_cores=round(here.other_cores, 3),
        knee_predicted=round(knee.orders_per_s, 1),
        limit=knee.limit,
        knee_measured=round(measured, 1),
        error=round(knee.orders_per_s / measured - 1, 4) if measured else math.inf,
        gave_out=_gave_out(phases, broken),
        steps=[_step(phase, broken, demand, costs, given, as_measured) for phase in phases],
        parts=_parts(held[-1], demand, costs, given, (here, as_measured)),
        problems=[*report.problems, *report.invalid_because, *_disturbed(here)],
    )


def _disturbed(here: Here) -> list[str]:
    if here.other_cores <= OTHERS_MAX * here.cores:
        return []
    used = f"other programs used {here.other_cores:.2f} of {here.cores} cores"
    return [f"{used}, and how much they yield cannot be predicted: run it where nothing else runs"]


def measured_knee(phases: list[PhaseFigures], broken: dict[str, str], p99_ms: float) -> float:
    """Return the rate between the last step kept and the one after it: where log p99 crosses the limit.

    Half way when it is not the p99 that broke. A step that broke below one that was kept was a hiccup: the
    higher rate shows what can be done. The last step's rate when it was kept; 0 when none was.
    """
    kept = [number for number, phase in enumerate(phases) if not broken.get(phase.name)]
    if not kept:
        return 0.0
    held = phases[kept[-1]]
    if kept[-1] + 1 == len(phases):
        return held.orders_per_s
    lost = phases[kept[-1] + 1]
    below, above = (phase.latencies["committed"].p99_ms for phase in (held, lost))
    share = 0.5
    if above > p99_ms > below > 0:
        share = math.log(p99_ms / below) / math.log(above / below)
    return held.orders_per_s + share * (lost.orders_per_s - held.orders_per_s)


def _gave_out(phases: list[PhaseFigures], broken: dict[str, str]) -> str:
    if not broken.get(phases[-1].name):
        return "nothing: the knee is higher"
    kept = [number for number, phase in enumerate(phases) if not broken.get(phase.name)]
    return broken[phases[kept[-1] + 1 if kept else 0].name]


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
        busy_measured=round(sum(phase.cores.values()) / here.cores, 3),
        p99_predicted_ms=round(point.p99_s * 1000, 1) if math.isfinite(point.p99_s) else math.inf,
        p99_measured_ms=phase.latencies["committed"].p99_ms,
    )


def _parts(
    phase: PhaseFigures,
    demand: Demand,
    costs: CostVector,
    given: Assumptions,
    machines: tuple[Here, Here],
) -> list[PartError]:
    by_vector, by_first_steps = (
        predicted_us(point_at(demand, costs, given, here, phase.orders_per_s).part_us) for here in machines
    )
    measured = measured_us(phase)
    return [
        PartError(
            part="senders" if part is Part.SMS else str(part),
            predicted_us=round(micros, 1),
            calibrated_us=round(by_first_steps[part], 1),
            measured_us=round(measured[part], 1),
        )
        for part, micros in by_vector.items()
    ]
