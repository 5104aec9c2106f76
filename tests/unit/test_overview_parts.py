"""Parts of the overview, out of what processes say of themselves."""

from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.api.overview_parts import processes_of
from pipeline.storage.control import ProcessName, ProcessReport, Report

STARTED = datetime(2026, 11, 21, tzinfo=UTC)


def process_of(extra: dict[str, Any]) -> Any:
    name = ProcessName("h:1:1.0", "h", 1, STARTED, ("orders",))
    [found] = processes_of(
        [ProcessReport(process=name, seen_at=STARTED, age_s=0.5, report=Report(extra=extra))]
    )
    return found.workers, found.bottleneck, found.decision


def test_what_the_allocator_decided_is_told() -> None:
    told = {"workers": 3, "bottleneck": "cpu", "why": "grew: 12 s of work wait"}
    assert process_of({"allocator": told}) == (3, "cpu", "grew: 12 s of work wait")


@pytest.mark.parametrize("told", [None, "x", {}, {"workers": "3", "why": None, "more": 1}])
def test_another_version_s_words_are_left_out(told: Any) -> None:
    assert process_of({"allocator": told}) == (0, "", "")
