"""What limits a load test: named from measurements, the surest first."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from operator import itemgetter
from typing import NamedTuple

import msgspec

from loadtest.scenarios.figures import PhaseFigures
from loadtest.scenarios.knee import LATE_P99_MS_MAX
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import Part
from loadtest.scenarios.servers import AWAY

BUSY_SHARE = 0.9
_LAG_S = 1.0
_FULL_SHARE = 0.9
_QUEUE_MIN = 100
_WAITING_MIN = 0.5
_HARMLESS = ("CPU", "Client:ClientRead", AWAY)


class Bottleneck(msgspec.Struct, frozen=True, kw_only=True):
    """What gave out first. `reached`: whether anything did; if not, `name` is what was nearest to it.

    `evidence`: the measurements, one a line.
    """

    name: str
    reached: bool
    phase: str
    evidence: list[str]


class _Found(NamedTuple):
    name: str
    why: str


def bottleneck_of(
    phase: PhaseFigures, samples: list[Sample], *, cpus: int | None = None, many: Collection[Part] = ()
) -> Bottleneck:
    """Name the bottleneck of a phase, from its figures and the samples taken in it.

    `many`: parts of more than one process.
    """
    inside = [sample for sample in samples if phase.begin_s <= sample.at_s <= phase.end_s]
    cpus = cpus or os.cpu_count() or 1
    lags = {name: lag for name, lag in phase.lag_s.items() if lag > _LAG_S}
    single = [part for part in Part if part not in many]
    providers = list(_providers(inside))
    own = [*_machine(phase, cpus), *_generator(phase), *_processes(phase, single)]
    # When one channel is late and the other is not, it is not for want of CPU.
    is_one_channels = bool(lags) and len({"sms", "mail"} & lags.keys()) == 1 and "committed" not in lags
    found = [*providers, *own] if is_one_channels else [*own, *providers]
    if lags:
        found += [*_away(inside), *_queues(inside), *_waits(inside)]
    behind = [f"{name}: {lag:.1f} s of work open at the phase's end" for name, lag in lags.items()]
    if found:
        evidence = [*behind, *(f"{one.name}: {one.why}" for one in found), *_spenders(phase)]
        return Bottleneck(name=found[0].name, reached=True, phase=phase.name, evidence=evidence)
    if lags:
        return Bottleneck(
            name="waiting, not work: no resource seen was full",
            reached=True,
            phase=phase.name,
            evidence=[*behind, *_spenders(phase)],
        )
    return _nearest(phase, cpus, single)


def _generator(phase: PhaseFigures) -> Iterator[_Found]:
    if phase.late_p99_ms > LATE_P99_MS_MAX:
        yield _Found("the load generator", f"its events left up to {phase.late_p99_ms:,.0f} ms late (p99)")


def _machine(phase: PhaseFigures, cpus: int) -> Iterator[_Found]:
    if phase.machine_cores > BUSY_SHARE * cpus:
        used = sum(phase.cores.values())
        others = max(0.0, phase.machine_cores - used)
        why = f"{phase.machine_cores:.2f} of {cpus} cores busy"
        yield _Found("CPU of the machine", f"{why}, {others:.2f} of them by other programs")


def _processes(phase: PhaseFigures, single: Collection[Part]) -> Iterator[_Found]:
    """Name those whose thread is busy: a part of one process can use one core."""
    for part in single:
        if (cores := phase.cores.get(part, 0.0)) > BUSY_SHARE:
            yield _Found(f"the {part} process", f"{cores:.2f} of the one core it can use")


def _providers(samples: list[Sample]) -> Iterator[_Found]:
    if not samples:
        return
    first, last = samples[0].gauges, samples[-1].gauges
    for name, now in last.items():
        if name.startswith("slot_in_flight"):
            slot = name[len("slot_in_flight") :]
            shares = [
                sample.gauges.get(name, 0.0) / limit
                for sample in samples
                if (limit := sample.gauges.get(f"slot_limit{slot}", 0.0))
            ]
            if shares and sum(shares) / len(shares) > _FULL_SHARE:
                used = 100 * sum(shares) / len(shares)
                yield _Found(f"the provider {_label(name)}", f"{used:.0f} % of its calls used")
        elif name.startswith("slot_circuit") and now:
            yield _Found(f"the provider {_label(name)}", "its circuit is open")
        elif name.startswith("held_back_total") and (held := now - first.get(name, 0.0)):
            channel, _, reason = _label(name).partition(",")
            yield _Found(f"the provider of {channel}", f"{held:,.0f} messages held back: {reason}")


def _label(gauge: str) -> str:
    """Return the label values of a gauge."""
    return gauge[gauge.index("{") + 1 : -1]


def _queues(samples: list[Sample]) -> Iterator[_Found]:
    if not samples:
        return
    for queue, now in samples[-1].queues.items():
        grown = now - samples[0].queues.get(queue, 0)
        if grown > _QUEUE_MIN and not queue.startswith("retry."):
            yield _Found("intake", f"the queue {queue} grew by {grown:,}")


def _away(samples: list[Sample]) -> Iterator[_Found]:
    missed = sum(AWAY in sample.waits for sample in samples)
    if missed > _WAITING_MIN * len(samples):
        yield _Found("a primary that is away", f"no answer to {missed} of {len(samples)} looks")


def _waits(samples: list[Sample]) -> Iterator[_Found]:
    total: Counter[str] = Counter()
    for sample in samples:
        total.update({name: n for name, n in sample.waits.items() if name not in _HARMLESS})
    for name, sessions in total.most_common(1):
        mean = sessions / len(samples)
        if mean > _WAITING_MIN:
            yield _Found("PostgreSQL", f"{mean:.1f} sessions waited for {name} on average")


def _spenders(phase: PhaseFigures) -> list[str]:
    """Return who used the CPU, the most first."""
    ranked = sorted(phase.cores.items(), key=lambda item: item[1], reverse=True)
    shown = [f"{name} {cores:.2f}" for name, cores in ranked if cores > 0.01]  # noqa: PLR2004  # a hundredth
    return [f"cores used: {', '.join(shown)}"] if shown else []


def _nearest(phase: PhaseFigures, cpus: int, single: Collection[Part]) -> Bottleneck:
    shares = {"CPU of the machine": phase.machine_cores / cpus}
    shares |= {f"the {part} process": phase.cores.get(part, 0.0) for part in single}
    name = max(shares, key=lambda each: shares[each])
    return Bottleneck(
        name=name,
        reached=False,
        phase=phase.name,
        evidence=[f"{name}: {shares[name]:.0%} used", *_spenders(phase)],
    )


def heaviest(phases: list[PhaseFigures]) -> PhaseFigures | None:
    """Return the measured phase with the most orders a second."""
    measured = [phase for phase in phases if phase.measured and phase.orders]
    return max(measured, key=lambda phase: phase.orders_per_s, default=None)


def furthest_behind(phases: list[PhaseFigures]) -> PhaseFigures | None:
    """Return the measured phase at whose end the most work was open; None: none had much."""
    behind = [(max(phase.lag_s.values(), default=0.0), phase) for phase in phases if phase.measured]
    lag_s, phase = max(behind, key=itemgetter(0), default=(0.0, None))
    return phase if lag_s > _LAG_S else None
