"""A sender killed, or stopped past its lease, at every step of the send path: no message lost, no SMS twice.

Each run sends twelve orders' messages on both channels, three for each thing a provider may do with the first
request it gets: take it, refuse it, close the connection without taking it, take it and lose the reply. The
cells go to var/faults/effects-matrix.json, from which scripts/render_effects_matrix.py makes the page.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from effects_cells import DEATHS, NOWHERE, STEPS, Cell, Death, cells, complaints
from effects_run import EffectsRun
from real_stack import Bench

pytestmark = [pytest.mark.faults, pytest.mark.timeout(150)]

REPORT = Path("var/faults/effects-matrix.json")
killed = pytest.mark.fault(1, "SIGKILL of the sender at each step of sending", ["I10", "I11", "I12"])
stopped = pytest.mark.fault(5, "SIGSTOP of the sender beyond its lease, then CONT", ["I12", "I13"])


class Matrix(msgspec.Struct):
    """What the runs found; runs made alone replace their own cells of an earlier report."""

    at: str = ""
    cells: list[Cell] = []
    guards: dict[str, list[str]] = {}

    def add(self, found: list[Cell]) -> None:
        runs = {(cell.death, cell.step) for cell in found}
        self.cells = [cell for cell in self.cells if (cell.death, cell.step) not in runs] + found


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    known = msgspec.json.decode(REPORT.read_bytes(), type=Matrix) if REPORT.exists() else Matrix()
    yield known
    known.at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    known.cells.sort(key=lambda cell: (DEATHS.index(cell.death), (NOWHERE, *STEPS).index(cell.step)))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_bytes(msgspec.json.format(msgspec.json.encode(known)) + b"\n")


@pytest.fixture
def sender_ends(bench: Bench, run_pipeline, tmp_path: Path) -> Callable[[Death, str], EffectsRun]:
    """Return a function that makes the run of a sender that ends so, at a step."""
    return lambda death, step: EffectsRun(bench, run_pipeline, tmp_path, death, step)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("death", [pytest.param("kill", marks=killed), pytest.param("stop", marks=stopped)])
async def test_nothing_lost_and_no_sms_twice(sender_ends, matrix: Matrix, death: Death, step: str) -> None:
    found = cells(death, step, await sender_ends(death, step).effects())
    matrix.add(found)
    assert complaints(found) == []


@pytest.mark.fault(42, "the provider accepts, and its reply is lost", ["I12"])
async def test_a_lost_reply_is_found_out(sender_ends, matrix: Matrix) -> None:
    """The sender lives: what it cannot know it asks, where there is somebody to ask."""
    found = cells("lives", NOWHERE, await sender_ends("lives", NOWHERE).effects())
    matrix.add(found)
    assert complaints(found) == []


@pytest.mark.fault(1, "a guard of the send path taken out: the matrix sees it", ["I12"])
@pytest.mark.parametrize(
    ("mutation", "death", "step"),
    [
        ("without_send_before", "stop", "before_call"),
        ("blind", "kill", "request_written"),
        ("send_before_record", "kill", "request_written"),
    ],
)
async def test_the_matrix_sees_a_guard_taken_out(
    sender_ends, matrix: Matrix, mutation: str, death: Death, step: str
) -> None:
    found = complaints(cells(death, step, await sender_ends(death, step).effects(mutation)))
    matrix.guards[mutation] = found
    assert any("sms" in line and "sent twice" in line for line in found)
