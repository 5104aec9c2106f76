"""Fault tests name what they break and the invariants they defend; the run ends in a report."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

REPORT = Path("var/faults/report.json")
_runs: dict[str, dict] = {}
_outcomes: dict[str, list[bool]] = defaultdict(list)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("faults") and item.get_closest_marker("fault") is None:
            raise pytest.UsageError(
                f"{item.nodeid}: a fault test needs @pytest.mark.fault(id, fault, invariants)"
            )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.failed:
        _outcomes[report.nodeid].append(report.passed)


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("fault")
    if marker is not None:
        identity, fault, invariants = marker.args
        _runs[item.nodeid] = {"id": identity, "fault": fault, "invariants": invariants}


def pytest_sessionfinish() -> None:
    found: dict[str, dict] = {}
    for nodeid, run in _runs.items():
        entry = found.setdefault(run["id"], {**run, "runs": 0, "failures": 0})
        entry["runs"] += 1
        entry["failures"] += not all(_outcomes[nodeid] or [False])
    if found:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(json.dumps(sorted(found.values(), key=lambda run: int(run["id"])), indent=2) + "\n")
