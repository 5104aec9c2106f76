"""What an allocator did in a load test: how many workers, and how often it changed its mind."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from loadtest.scenarios.figures import PhaseFigures
from loadtest.scenarios.samples import Sample

_WANTED = "allocator_workers{wanted}"
_CHANGES = "allocator_decisions_total{"
_MORE_WORKERS = "allocator_decisions_total{up,workers}"


def allocator_figures(phases: Iterable[PhaseFigures], samples: Sequence[Sample]) -> dict[str, float]:
    """Return the figures by name; none when no part of the pipeline had an allocator.

    `allocator.turns`: how often the number of workers went the other way. `PHASE.allocator.changes`: of any
    lever; `PHASE.allocator.workers_added`; `PHASE.allocator.workers`: at the phase's end.
    """
    seen = [sample for sample in samples if _WANTED in sample.gauges]
    if not seen:
        return {}
    wanted = [sample.gauges[_WANTED] for sample in seen]
    figures = {"allocator.workers_max": max(wanted), "allocator.turns": float(_turns(wanted))}
    for phase in phases:
        inside = [sample for sample in seen if phase.begin_s <= sample.at_s <= phase.end_s]
        if inside:
            figures |= _of_phase(phase.name, inside[0].gauges, inside[-1].gauges)
    return figures


def _of_phase(name: str, first: dict[str, float], last: dict[str, float]) -> dict[str, float]:
    return {
        f"{name}.allocator.workers": last[_WANTED],
        f"{name}.allocator.changes": _changes(last) - _changes(first),
        f"{name}.allocator.workers_added": last.get(_MORE_WORKERS, 0.0) - first.get(_MORE_WORKERS, 0.0),
    }


def _changes(gauges: dict[str, float]) -> float:
    return sum(value for name, value in gauges.items() if name.startswith(_CHANGES))


def _turns(values: Sequence[float]) -> int:
    """Return how often a series changed its direction."""
    steps = [after > before for before, after in pairwise(values) if after != before]
    return sum(one is not other for one, other in pairwise(steps))
