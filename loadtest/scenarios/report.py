"""The result of a load test: what was seen, whether it is valid, and whether the thresholds are kept."""

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loadtest.intake_report import machine, now_text
from loadtest.scenarios.allocating import allocator_figures
from loadtest.scenarios.arrivals import Floats
from loadtest.scenarios.backlog import WorkedOff, draining, worked_off
from loadtest.scenarios.bottleneck import Bottleneck, bottleneck_of, furthest_behind, heaviest
from loadtest.scenarios.conservation import Conservation
from loadtest.scenarios.figures import (
    Peaks,
    PhaseFigures,
    flat,
    memory_figures,
    memory_growth_mb_per_h,
    peaks_of,
    phases_of,
    ways_of,
)
from loadtest.scenarios.knee import LATE_P99_MS_MAX, Knee, breaking, held_up_to, is_generators_fault, knee_of
from loadtest.scenarios.latencies import percentiles_over_time
from loadtest.scenarios.limits import ComponentLimit, component_limits
from loadtest.scenarios.observation import Observation
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import LoadTestError, Scenario, Threshold

FORMAT = "postorder-loadtest-1"
NOT_JUDGED = "only seen in 20 minutes or more, of processes that the run started itself"
_POINTS_MAX = 240
_BEHIND_SHARE = 0.5
_CLOCK_STEP_MAX_S = 0.05


class ReportError(LoadTestError):
    """A report cannot be read."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold and what was measured; None: nothing was. What a run cannot judge (`judged`) is kept."""

    figure: str
    wanted: str
    measured: float | None
    kept: bool
    judged: bool = True

    @property
    def said(self) -> tuple[str, str]:
        """What was measured, and the verdict, for people."""
        if not self.judged:
            return NOT_JUDGED, "not judged"
        return "not measured" if self.measured is None else f"{self.measured:,.4g}", (
            "kept" if self.kept else "missed"
        )


class OverTime(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles in milliseconds, by planned time; a point for each `step_s`. None: nothing came."""

    step_s: float
    p50_ms: dict[str, list[float | None]]
    p99_ms: dict[str, list[float | None]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one run. `valid`: whether the load was the one planned; `invalid_because`: why not.

    `resolution_ms`: how late `committed` and `replica` are at most, in 99 of 100; they are never early.
    """

    format: str
    scenario: Scenario
    at: str
    machine: str
    command: str
    target: str
    source: str
    resolution_ms: float
    clock_error_ms: float
    valid: bool
    invalid_because: list[str]
    interrupted: bool
    generator_late_p99_ms: float
    generator_blocked_s: float
    conservation: Conservation
    problems: list[str]
    thresholds: list[Kept]
    bottleneck: Bottleneck | None
    knee: Knee | None
    drained: WorkedOff | None = None
    limits: list[ComponentLimit]
    peaks: Peaks
    memory_growth_mb_per_h: float | None
    phases: list[PhaseFigures]
    over_time: OverTime
    figures: dict[str, float]
    samples: list[Sample]

    @property
    def passed(self) -> bool:
        """Whether the run is whole and valid, all adds up, and every threshold is kept."""
        return (
            self.valid
            and not self.interrupted
            and not self.problems
            and all(threshold.kept for threshold in self.thresholds)
        )

    @property
    def exit_status(self) -> int:
        """0: passed; 1: not; 130: interrupted, as shells say it."""
        return 130 if self.interrupted else 0 if self.passed else 1


def report_of(seen: Observation, *, command: str, target: str) -> Report:
    """Compute everything of a run."""
    scenario = seen.scenario
    phases = phases_of(seen)
    peaks = peaks_of(seen.samples)
    knee = knee_of(phases, scenario.ramp, seen.samples) if scenario.ramp else None
    growth = memory_growth_mb_per_h(seen.samples)
    late = seen.sent.lateness_s(seen.arrivals)
    late_p99_ms = round(float(np.percentile(late, 99)) * 1e3, 2) if len(late) else 0.0
    figures = _figures(phases, peaks, knee, growth)
    drain = draining(seen, phases)
    drained = worked_off(drain, seen.samples) if drain else None
    if drained is not None:
        rates = msgspec.structs.asdict(drained)
        figures |= {f"drained.{name}": value for name, value in rates.items() if name != "phase"}
    figures |= allocator_figures([phase for phase in phases if phase.measured], seen.samples)
    figures |= memory_figures(seen.samples, seen.spans)
    invalid = _invalid(seen, phases, knee)
    judged = (
        (breaking(phases, knee) if knee else None) or drain or furthest_behind(phases) or heaviest(phases)
    )
    sustained = drain or _sustained(phases, knee)
    return Report(
        format=FORMAT,
        scenario=scenario,
        at=now_text(),
        machine=machine(),
        command=command,
        target=target,
        source=seen.source,
        resolution_ms=round(seen.resolution_s * 1e3, 1),
        clock_error_ms=round(seen.clock_error_s * 1e3, 3),
        valid=not invalid,
        invalid_because=invalid,
        interrupted=seen.interrupted,
        generator_late_p99_ms=late_p99_ms,
        generator_blocked_s=round(seen.sent.blocked_s, 3),
        conservation=seen.conservation,
        problems=[*seen.conservation.problems(), *seen.failures],
        thresholds=[_kept(each, figures.get(each.figure)) for each in scenario.thresholds],
        bottleneck=bottleneck_of(judged, seen.samples, many=scenario.allocated) if judged else None,
        knee=knee,
        drained=drained,
        limits=component_limits(sustained, seen.samples, many=scenario.allocated) if sustained else [],
        peaks=peaks,
        memory_growth_mb_per_h=growth,
        phases=phases,
        over_time=_over_time(seen),
        figures=figures,
        samples=seen.samples,
    )


def _kept(threshold: Threshold, measured: float | None) -> Kept:
    judged = measured is not None or not threshold.figure.startswith("memory.")
    return Kept(
        figure=threshold.figure,
        wanted=threshold.wanted,
        measured=measured,
        kept=threshold.keeps(measured) or not judged,
        judged=judged,
    )


def _figures(
    phases: list[PhaseFigures], peaks: Peaks, knee: Knee | None, growth: float | None
) -> dict[str, float]:
    figures = flat([phase for phase in phases if phase.measured])
    figures |= {f"peak.{name}": value for name, value in msgspec.structs.asdict(peaks).items()}
    if knee is not None:
        names = [name for name in Knee.__struct_fields__ if name not in ("bound", "steps")]
        figures |= {f"knee.{name}": getattr(knee, name) for name in names}
    if growth is not None:
        figures["memory.growth_mb_per_h"] = growth
    return figures


def _invalid(seen: Observation, phases: list[PhaseFigures], knee: Knee | None) -> list[str]:
    """Say why the load was not the one planned. A ramp's broken steps are judged by the ramp itself."""
    found = []
    counted = [phase for phase in phases if phase.measured]
    if knee is not None:
        held = {step.name for step in knee.steps if not step.broken}
        counted = [phase for phase in counted if phase.name in held]
        after = knee.steps[held_up_to(knee.steps) :]
        if after and after[0].by_generator:
            found.append(f"{after[0].name}: the load generator, not the pipeline, was the limit")
    found += [
        f"{phase.name}: the load generator fell behind: events left up to {phase.late_p99_ms:,.0f} ms late "
        f"(p99; {LATE_P99_MS_MAX:g} allowed): lower --rate, or generate from another machine"
        for phase in counted
        if is_generators_fault(phase, os.cpu_count() or 1) and not _was_blocked(seen)
    ]
    if not any(phase.measured for phase in phases):
        found.append("no measured phase was reached")
    if abs(seen.clock_step_s) > _CLOCK_STEP_MAX_S:
        found.append(f"this machine's clock was set by {seen.clock_step_s:+,.2f} s meanwhile: times go by it")
    return found


def _was_blocked(seen: Observation) -> bool:
    """Whether the broker took no more, rather than the generator having been slow."""
    late = seen.sent.lateness_s(seen.arrivals)
    return bool(len(late)) and seen.sent.blocked_s > _BEHIND_SHARE * float(late.max())


def _sustained(phases: list[PhaseFigures], knee: Knee | None) -> PhaseFigures | None:
    if knee is None:
        return heaviest([phase for phase in phases if not phase.faults])
    held = [step.name for step in knee.steps if not step.broken]
    return heaviest([phase for phase in phases if phase.name in held])


def _over_time(seen: Observation) -> OverTime:
    planned = seen.planned_orders_s
    known = ~np.isnan(planned)
    until_s = float(planned[known].max()) if known.any() else 0.0
    step_s = max(1.0, round(until_s / _POINTS_MAX, 1))
    ways = {name: seconds for name, seconds in ways_of(seen).items() if " to " not in name}

    def over(seconds: Floats, share: float) -> list[float | None]:
        return percentiles_over_time(
            planned[known], seconds[known], until_s=until_s, share=share, step_s=step_s
        )

    return OverTime(
        step_s=step_s,
        p50_ms={name: over(seconds, 50.0) for name, seconds in ways.items()},
        p99_ms={name: over(seconds, 99.0) for name, seconds in ways.items()},
    )


# --- files -----------------------------------------------------------------------------------------------


def write_report(report: Report, folder: Path) -> Path:
    """Write NAME.json into a folder, whole or not at all; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.scenario.name}.json"
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(report) + b"\n")
    temporary.replace(path)
    return path


def read_report(path: Path) -> Report:
    """Read a report. Raises ReportError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ReportError(f"{path}: is no report of a load test: {error}") from error


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of reports."""
    schema = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": FORMAT, **schema}
