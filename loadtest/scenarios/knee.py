"""Where a ramp breaks: the last step that everything kept up with, and what did not in the next."""

import os

import msgspec

from loadtest.scenarios.figures import PhaseFigures, gained_per_s
from loadtest.scenarios.latencies import Latency
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import Ramp

LATE_P99_MS_MAX = 50.0
"""How late the generator may be itself. Above it the load was not the one that was planned, unless the
machine's CPU was taken: then it waits its turn like all others, and that machine's limit is what is found."""
TAKEN_SHARE = 0.95
_GENERATOR = "the generator was late"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a ramp. `broken`: why it was not sustained; empty: it was."""

    name: str
    orders_per_s: float
    lag_s: dict[str, float]
    p99_ms: float
    broken: list[str]

    @property
    def by_generator(self) -> bool:
        """Whether nothing but the generator broke it."""
        return len(self.broken) == 1 and self.broken[0].startswith(_GENERATOR)


class Knee(msgspec.Struct, frozen=True, kw_only=True):
    """The highest rate sustained, and what was done at it. `bound`: a step broke; else it may be higher."""

    orders_per_s: float
    events_per_s: float
    orders_per_min: float
    invoices_per_min: float
    sms_per_min: float
    mails_per_min: float
    bound: bool
    steps: list[Step]

    @property
    def is_higher(self) -> bool:
        """Whether every step was sustained, so that the knee is above what the ramp reached."""
        return bool(self.steps) and not self.bound


def held_up_to(steps: list[Step]) -> int:
    """Return how many steps there are up to the last one that was kept, before one that the pipeline broke.

    A step that the generator broke below one that was kept was its hiccup: the higher rate was sent in time.
    """
    held = 0
    for number, step in enumerate(steps, start=1):
        if not step.broken:
            held = number
        elif not step.by_generator:
            break
    return held


def is_generators_fault(phase: PhaseFigures, cpus: int) -> bool:
    """Whether events left late though there was CPU left to send them in time."""
    return phase.late_p99_ms > LATE_P99_MS_MAX and phase.machine_cores < TAKEN_SHARE * cpus


def step_of(phase: PhaseFigures, ramp: Ramp) -> Step:
    """Judge a step."""
    latency: Latency | None = phase.latencies.get(ramp.p99_of)
    broken = [
        f"{name}: {lag:.1f} s of work open at the end"
        for name, lag in phase.lag_s.items()
        if lag > ramp.lag_s_max
    ]
    if latency is None or not latency.count:
        broken.append(f"{ramp.p99_of}: none came")
    elif latency.p99_ms > ramp.p99_ms_max:
        broken.append(f"{ramp.p99_of} p99 {latency.p99_ms:,.0f} ms")
    if is_generators_fault(phase, os.cpu_count() or 1):
        broken.append(f"{_GENERATOR} by {phase.late_p99_ms:,.0f} ms itself")
    return Step(
        name=phase.name,
        orders_per_s=phase.orders_per_s,
        lag_s=phase.lag_s,
        p99_ms=latency.p99_ms if latency else 0.0,
        broken=broken,
    )


def knee_of(phases: list[PhaseFigures], ramp: Ramp, samples: list[Sample]) -> Knee:
    """Return the knee of a ramp's measured phases. 0 when not even the first was sustained."""
    measured = [phase for phase in phases if phase.measured]
    steps = [step_of(phase, ramp) for phase in measured]
    held = held_up_to(steps)
    best = measured[held - 1] if held else None

    def per_min(count: str) -> float:
        return round(60 * gained_per_s(samples, best.begin_s, best.end_s, count)) if best else 0.0

    return Knee(
        orders_per_s=best.orders_per_s if best else 0.0,
        events_per_s=best.events_per_s if best else 0.0,
        orders_per_min=per_min("orders"),
        invoices_per_min=per_min("invoices"),
        sms_per_min=per_min("sms"),
        mails_per_min=per_min("mails"),
        bound=held < len(steps),
        steps=steps,
    )


def breaking(phases: list[PhaseFigures], knee: Knee) -> PhaseFigures | None:
    """Return the step that broke, or the last one."""
    names = {phase.name: phase for phase in phases}
    after = knee.steps[held_up_to(knee.steps) :] or knee.steps[-1:]
    return names[after[0].name] if after else None
