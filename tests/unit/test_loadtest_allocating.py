"""What a load test says of an allocator."""

import msgspec
import pytest

from loadtest.scenarios.allocating import allocator_figures
from loadtest.scenarios.figures import PhaseFigures
from loadtest.scenarios.samples import Sample


class _Phase(msgspec.Struct):
    """As much of a phase as is looked at."""

    name: str
    begin_s: float
    end_s: float


class _Sample(msgspec.Struct):
    at_s: float
    gauges: dict[str, float]


def sampled(workers: list[int]) -> list[Sample]:
    """Samples a second apart, with the counters that such a history would have."""
    found, up, down = [], 0, 0
    for at_s, now in enumerate(workers):
        before = workers[at_s - 1] if at_s else now
        up, down = up + max(0, now - before), down + max(0, before - now)
        gauges = {
            "allocator_workers{wanted}": float(now),
            "allocator_decisions_total{up,workers}": float(up),
            "allocator_decisions_total{down,workers}": float(down),
        }
        found.append(_Sample(float(at_s), gauges))
    return found  # type: ignore[return-value]


PHASES: list[PhaseFigures] = [_Phase("rise", 0, 3), _Phase("rest", 4, 9)]  # type: ignore[list-item]


def test_a_way_up_and_a_rest() -> None:
    assert allocator_figures(PHASES, sampled([1, 1, 2, 3, 3, 3, 3, 3, 3, 3])) == {
        "allocator.workers_max": 3,
        "allocator.turns": 0,
        "rise.allocator.workers": 3,
        "rise.allocator.changes": 2,
        "rise.allocator.workers_added": 2,
        "rest.allocator.workers": 3,
        "rest.allocator.changes": 0,
        "rest.allocator.workers_added": 0,
    }


@pytest.mark.parametrize(
    ("workers", "turns"), [([1, 2, 1], 1), ([1, 2, 1, 2, 1], 3), ([3, 2, 1], 0), ([2], 0), ([1, 2, 2, 1], 1)]
)
def test_each_change_of_direction_counts(workers: list[int], turns: int) -> None:
    assert allocator_figures([], sampled(workers))["allocator.turns"] == turns


def test_without_an_allocator_there_are_no_figures() -> None:
    assert allocator_figures(PHASES, []) == {}
