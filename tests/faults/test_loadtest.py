"""Load tests that break what they load, on stacks of their own: they see it, it adds up, it is mended."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from commands import ROOT

from loadtest.scenarios.report import Report, read_report
from stack.launcher import down, reset, status

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Where a load test writes. A stack it left is stopped, so that a failure leaves nothing behind."""
    yield tmp_path
    left = status(tmp_path / "stack")
    if left is not None:
        down(tmp_path / "stack", print)
        reset(tmp_path / "stack", print)


def started(out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "consumers", "loadtest", "run", *arguments, "--out", str(out)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


def finished(out: Path, name: str, *arguments: str) -> tuple[Report, str]:
    process = started(out, name, *arguments)
    output, errors = process.communicate(timeout=380)
    assert process.returncode in (0, 1), output + errors
    return read_report(out / f"{name}.json"), output + errors


def assert_unhurt(report: Report, before: str, during: str, what: str) -> None:
    """I23: everything came (the load is open: all that was due), and at most twice as late.

    Half a second besides is for a machine on which other tests run; what waits for the fault waits for many.
    """
    phases = {phase.name: phase for phase in report.phases}
    calm, hurt = (phases[name].latencies[what] for name in (before, during))
    assert hurt.count > 0
    assert hurt.missing == 0
    assert hurt.p99_ms <= 2 * calm.p99_ms + 500


@pytest.mark.fault(20, "a primary is killed under load and comes back", ["I1", "I2", "I10", "I23"])
def test_a_shard_that_was_down_is_made_up_for(out: Path) -> None:
    report, output = finished(out, "shard-down", "--rate", "30", "--seconds", "80")
    assert report.problems == [], output
    down_phase = next(phase for phase in report.phases if phase.name == "down")
    assert down_phase.latencies["committed"].max_ms > 5000  # it was seen
    assert_unhurt(report, "calm", "down", "committed_shard0")
    assert report.conservation.missing == report.conservation.sent_twice == 0


@pytest.mark.fault(41, "the SMS provider answers 503 under load", ["I10", "I15", "I23"])
def test_an_outage_of_a_provider_is_made_up_for(out: Path) -> None:
    report, output = finished(out, "provider-outage", "--rate", "30", "--seconds", "70")
    assert report.problems == [], output
    outage = next(phase for phase in report.phases if phase.name == "outage")
    assert outage.latencies["sms_accepted"].p50_ms > 3 * outage.latencies["mail_accepted"].p50_ms
    assert_unhurt(report, "calm", "outage", "mail_accepted")
    assert_unhurt(report, "calm", "outage", "committed")
    assert (report.conservation.unaccepted, report.conservation.sent_twice) == (0, 0)


@pytest.mark.fault(36, "a shard is added under load", ["I17", "I18", "I19", "I20"])
def test_a_shard_that_comes_is_seen_and_nothing_is_lost(out: Path) -> None:
    report, output = finished(out, "reshard", "--rate", "30", "--seconds", "60")
    assert report.problems == [], output
    after = next(phase for phase in report.phases if phase.name == "after")
    assert after.latencies["committed_shard2"].count > 0


@pytest.mark.fault(3, "Ctrl-C in the middle of a load test", ["I1", "I28"])
def test_an_interrupted_load_test_reports_what_it_saw_and_leaves_nothing(out: Path) -> None:
    process = started(out, "soak", "--rate", "30", "--seconds", "600")
    assert process.stderr is not None
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if "phase first" in line:
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, "".join(seen) + output + errors
    report = msgspec.json.decode((out / "soak.json").read_bytes(), type=Report)
    assert report.interrupted
    assert report.problems == []
    assert 0 < report.conservation.published < 2000
    assert "Interrupted" in (out / "soak.html").read_text()
    assert status(out / "stack") is None
