"""What a change of shards prints where there is no terminal."""

import io
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import uuid4

from rich.console import Console

from consumers.shards_report import ProgressLines
from pipeline.resharding.progress import Phase, Progress
from pipeline.storage.move_table import Move

SLOTS = tuple(range(1365))
MOVE = Move(move_id=uuid4(), source="shard0", target="shard2", slots=SLOTS, started_at=datetime.now(UTC))


def printed(reports: Iterable[tuple[Phase, int, float]]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    lines = ProgressLines(console)
    for phase, done, stall_ms in reports:
        total = 0 if phase is Phase.WAITING else len(SLOTS)
        lines(Progress(move=MOVE, phase=phase, done=done, total=total, stall_ms=stall_ms))
    return console.file.getvalue().splitlines()


def test_a_line_for_each_tenth_however_many_groups_there_are() -> None:
    deleted = [(Phase.CLEANING, start, 0.0) for start in range(0, len(SLOTS), 16) for _ in range(3)]
    lines = printed([*deleted, (Phase.DONE, len(SLOTS), 0.0)])
    assert len(lines) == 11
    assert lines[0] == "shard0 to shard2: deleting moved rows 0/1,365"
    assert lines[-1] == "shard0 to shard2: done 1,365/1,365"


def test_a_line_has_the_longest_pause_since_the_one_before() -> None:
    pauses = [(16, 80.0), (32, 310.0), (160, 90.0), (176, 50.0), (288, 40.0)]
    lines = printed((Phase.FLIPPING, done, stall_ms) for done, stall_ms in pauses)
    assert [line.partition("pauses ")[2] for line in lines] == ["up to 80 ms", "up to 310 ms", "up to 50 ms"]


def test_waiting_is_said_again_only_after_something_went_on() -> None:
    deleted = ((Phase.CLEANING, done, 0.0) for done in (0, 16, 160))
    lines = printed(report for one in deleted for report in (one, (Phase.WAITING, 0, 0.0)))
    assert ["waiting" in line for line in lines] == [False, True, False, True]


def test_a_phase_that_begins_anew_is_shown_anew() -> None:
    lines = printed([(Phase.COPYING, 700, 0), (Phase.COPYING, 0, 0), (Phase.COPYING, 700, 0)])
    assert len(lines) == 3
