"""Runs in which hardly anything happened, or nothing: no verdict is better than what was seen."""

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from load_runs import STEADY, observed, reported

from loadtest.scenarios import servers
from loadtest.scenarios.arrivals import plan
from loadtest.scenarios.compare import compare
from loadtest.scenarios.figures import peaks_of
from loadtest.scenarios.page import page_of, verdict_of
from loadtest.scenarios.runner import Run
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import Phase, Ramp, Threshold
from loadtest.scenarios.target import Target

RAMP = msgspec.structs.replace(STEADY, ramp=Ramp(), phases=(STEADY.phases[0], Phase(name="step", seconds=20)))


@pytest.mark.parametrize("apart_s", [0.5, 1.0, 1.3, 1.9, 2.0, 3.0, 4.5, 6.0, 11.0])
def test_there_is_a_peak_however_far_apart_samples_are(apart_s: float) -> None:
    first = observed().samples[0]
    samples = [
        msgspec.structs.replace(first, at_s=number * apart_s, orders=round(100 * number * apart_s))
        for number in range(20)
    ]
    assert peaks_of(samples).orders_per_s == pytest.approx(100, rel=0.02)


def test_what_never_came_keeps_no_threshold_and_is_no_quicker_run() -> None:
    keeps = Threshold(figure="steady.sms_accepted.p99_ms", at_most=1000)
    scenario = msgspec.structs.replace(STEADY, thresholds=(keeps,))
    before = observed(scenario)
    report = reported(before._replace(sms_at=np.full(len(before.sms_at), np.nan)))
    [kept] = report.thresholds
    assert (kept.kept, kept.measured, report.passed) == (False, None, False)
    assert report.figures["steady.sms_accepted.missing"] == report.phases[1].orders
    found = {one.figure: one.verdict for one in compare(reported(before), report).ratios}
    assert found["steady.sms_accepted.p99_ms"] == "worse"


def test_a_step_of_which_nothing_came_is_not_sustained() -> None:
    seen = observed(msgspec.structs.replace(RAMP, ramp=Ramp(p99_of="sms_accepted", lag_s_max=1000)))
    report = reported(seen._replace(sms_at=np.full(len(seen.sms_at), np.nan)))
    assert report.knee is not None
    assert [step.broken for step in report.knee.steps] == [["sms_accepted: none came"]]


def test_a_ramp_that_ends_before_its_first_step_has_measured_nothing() -> None:
    seen = observed(RAMP)
    report = reported(seen._replace(spans=seen.spans[:1]))
    assert (report.valid, report.passed) == (False, False)
    assert report.invalid_because == ["no measured phase was reached"]
    assert verdict_of(report)[0] is False
    assert "No step broke" not in page_of(report)


def test_a_run_during_which_the_clock_was_set_is_not_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    before, now = servers.clock_lead_s(), time.time
    assert servers.clock_lead_s() - before == pytest.approx(0, abs=0.02)
    monkeypatch.setattr(time, "time", lambda: now() - 3.0)
    step_s = servers.clock_lead_s() - before
    assert step_s == pytest.approx(-3, abs=0.02)
    [why] = reported(observed(clock_step_s=step_s)).invalid_because
    assert "clock was set by -3.00 s" in why
    assert reported(observed(clock_step_s=0.01)).valid


class Nobody:
    """Whom nothing is told."""

    def say(self, text: str) -> None: ...

    def tell(self, sample: Sample, phase: Phase | None) -> None: ...


def test_a_ramp_goes_on_where_nobody_counts_messages(tmp_path: Path) -> None:
    """An installation that runs has no stand-ins: that none was seen sent says nothing of what is open."""
    settings: Any = None
    target = Target(settings_file=tmp_path, settings=settings, stack=None, own=False)
    arrivals = plan(RAMP)
    samples = [msgspec.structs.replace(sample, sms=0, mails=0) for sample in observed(RAMP).samples]
    run = Run(RAMP, target, tmp_path, Nobody())
    run._phase = RAMP.phases[1]
    hear = run._heard(arrivals)
    for sample in samples:
        hear(sample)
    assert not run._gave_up
    for sample in samples:
        hear(msgspec.structs.replace(sample, orders=0))  # orders are counted everywhere
    assert run._gave_up
