"""What a report says: validity, thresholds, knee and bottleneck follow from what was measured."""

import os

import msgspec
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from load_runs import STEADY, SUMS, observed, reported

from loadtest.scenarios.knee import Step, held_up_to
from loadtest.scenarios.page import page_of, verdict_of
from loadtest.scenarios.picture import main as draw
from loadtest.scenarios.report import ReportError, read_report, report_schema, write_report
from loadtest.scenarios.scenario import (
    Mix,
    Part,
    PartHeld,
    Phase,
    Ramp,
    Scenario,
    StandInFault,
    Threshold,
)
from pipeline.errors import SettingsError


def with_bounds(*thresholds: Threshold) -> Scenario:
    return msgspec.structs.replace(STEADY, thresholds=thresholds)


def test_latency_counts_from_the_planned_moment() -> None:
    report = reported(observed(committed_s=0.05, late_s=0.02))
    [warm_up, steady] = report.phases
    assert steady.latencies["committed"].p99_ms == pytest.approx(50, rel=2e-3)
    assert steady.latencies["sms_accepted"].p50_ms == pytest.approx(150, rel=2e-3)
    assert steady.latencies["sms_delivered"].p50_ms == pytest.approx(350, rel=2e-3)
    assert steady.latencies["sms owed to claimed"].p50_ms == pytest.approx(20, rel=2e-3)
    assert steady.latencies["replica"].p50_ms > steady.latencies["committed"].p50_ms
    assert steady.latencies["committed_shard1"].count == pytest.approx(steady.orders / 2, abs=1)
    assert steady.orders_per_s == pytest.approx(100, rel=0.15)
    assert warm_up.orders + steady.orders == len(observed().traces.committed)
    assert steady.late_p99_ms == pytest.approx(20, abs=0.1)
    assert report.passed
    assert report.exit_status == 0


def test_a_stall_is_seen_by_all_that_were_planned_meanwhile() -> None:
    """No coordinated omission: a second of standstill is a second for the first, and some for the others."""

    def stalled(planned: np.ndarray) -> np.ndarray:
        return np.where((planned > 10) & (planned < 11), 11.01 - planned, 0.01)

    phase = reported(observed(committed_s=stalled)).phases[1]
    assert phase.latencies["committed"].max_ms == pytest.approx(1000, rel=0.05)
    assert phase.latencies["committed"].p99_ms > 500
    assert phase.latencies["committed"].p50_ms == pytest.approx(10, rel=0.01)


def test_thresholds_decide() -> None:
    good = Threshold(figure="steady.committed.p99_ms", at_most=60)
    missed = Threshold(figure="peak.orders_per_s", at_least=1e6)
    absent = Threshold(figure="steady.nothing.p99_ms", at_most=1)
    report = reported(observed(with_bounds(good)))
    assert [kept.kept for kept in report.thresholds] == [True]
    for bad in (missed, absent):
        report = reported(observed(with_bounds(good, bad)))
        assert [kept.kept for kept in report.thresholds] == [True, False]
        assert (report.valid, report.passed, report.exit_status) == (True, False, 1)
        assert "1 of 2 thresholds missed" in verdict_of(report)[1]


def test_a_generator_that_fell_behind_makes_a_run_invalid_and_is_its_bottleneck() -> None:
    report = reported(observed(late_s=0.2))
    assert not report.valid
    assert report.exit_status == 1
    assert "fell behind" in report.invalid_because[0]
    assert report.bottleneck is not None
    assert report.bottleneck.name == "the load generator"


def test_a_generator_that_waits_for_a_machine_whose_cpu_is_taken_finds_that_machines_limit() -> None:
    cores = {"intake": 0.6, "shard0-primary": 0.97 * (os.cpu_count() or 1) - 0.6}
    report = reported(observed(late_s=0.2, cores=cores))
    assert report.valid
    assert report.bottleneck is not None
    assert report.bottleneck.name == "CPU of the machine"
    assert any("its events left up to 200 ms late" in line for line in report.bottleneck.evidence)


def test_a_broker_that_took_no_more_is_not_the_generators_fault() -> None:
    assert reported(observed(late_s=0.2, blocked_s=0.15)).valid


def test_an_interrupted_run_and_one_that_does_not_add_up_fail() -> None:
    interrupted = reported(observed(interrupted=True))
    assert (interrupted.passed, interrupted.exit_status) == (False, 130)
    lost = reported(observed(conservation=msgspec.structs.replace(SUMS, missing=2)))
    assert (lost.passed, lost.exit_status) == (False, 1)
    assert "2 published events are nowhere" in lost.problems
    broken = reported(observed(failures=["intake: ended"]))
    assert not broken.passed


RAMP = msgspec.structs.replace(
    STEADY,
    phases=tuple(Phase(name=f"step-{n}", seconds=8, load=2.0**n) for n in range(4)),
    ramp=Ramp(lag_s_max=1, p99_ms_max=500),
)


def test_the_knee_is_the_last_step_that_was_kept_up_with() -> None:
    def breaks(planned: np.ndarray) -> np.ndarray:
        return np.where(planned >= 16, 0.05 + (planned - 16) * 0.5, 0.05)

    report = reported(observed(RAMP, committed_s=breaks))
    assert report.knee is not None
    assert [bool(step.broken) for step in report.knee.steps] == [False, False, True, True]
    assert report.knee.orders_per_s == pytest.approx(200, rel=0.15)
    assert report.knee.sms_per_min == pytest.approx(200 * 60, rel=0.15)
    assert report.knee.bound
    assert report.figures["knee.orders_per_s"] == report.knee.orders_per_s
    assert report.bottleneck is not None
    assert report.bottleneck.phase == "step-2"


@pytest.mark.parametrize(
    ("broken", "held"),
    [
        (["", "generator", "", "", "p99"], 4),  # a hiccup: the higher rates were sent in time
        (["", "", "generator", "p99", ""], 2),
        (["", "p99", ""], 1),
        (["generator", "generator"], 0),
        (["generator p99", ""], 0),
        (["", "", ""], 3),
        ([], 0),
    ],
)
def test_a_hiccup_of_the_generator_below_a_rate_that_was_kept_ends_no_ramp(
    broken: list[str], held: int
) -> None:
    whys = {"generator": "the generator was late by 60 ms itself", "p99": "committed p99 5,000 ms"}
    steps = [
        Step(
            name=f"{number}",
            orders_per_s=number,
            lag_s={},
            p99_ms=1,
            broken=[whys[why] for why in one.split()],
        )
        for number, one in enumerate(broken)
    ]
    assert held_up_to(steps) == held


def test_a_ramp_that_never_breaks_says_so() -> None:
    report = reported(observed(RAMP))
    assert report.knee is not None
    assert not report.knee.bound
    assert "No step broke" in page_of(report)


def test_what_a_backlog_was_worked_off_at_leaves_out_the_idle_rest_of_its_phase() -> None:
    held = Phase(name="pile-up", seconds=5, faults=(PartHeld(part=Part.INTAKE),))
    phases = (held, Phase(name="drain", seconds=20, load=0))

    def in_four_seconds(planned: np.ndarray) -> np.ndarray:
        return 10.0 + 0.8 * planned - planned  # what came in 5 s is done from second 10 to 14

    seen = observed(msgspec.structs.replace(STEADY, phases=phases), committed_s=in_four_seconds, sends=False)
    report = reported(seen)
    assert report.drained is not None
    assert report.drained.seconds == pytest.approx(4, abs=1)
    assert report.drained.orders_per_s == pytest.approx(5 / 4 * STEADY.rate_per_s, rel=0.15)
    assert report.figures["drained.orders_per_s"] == report.drained.orders_per_s
    assert "from a backlog" in page_of(report)


def test_orders_that_owe_no_message_are_not_missing() -> None:
    mix = msgspec.structs.replace(STEADY.mix, sms_share=0.3, mail_share=0.0)
    seen = observed(msgspec.structs.replace(STEADY, mix=mix))
    nobody = np.full(len(seen.sms_at), np.nan)
    seen = seen._replace(sms_at=np.where(seen.arrivals.with_phone, seen.sms_at, np.nan), mail_at=nobody)
    steady = reported(seen).phases[1]
    assert steady.latencies["sms_accepted"].missing == 0
    assert steady.latencies["sms_accepted"].count == pytest.approx(0.3 * steady.orders, rel=0.2)
    assert "mail_accepted" not in steady.latencies
    assert steady.lag_s["sms"] < 0.5
    assert steady.lag_s["mail"] == 0


def test_a_report_survives_its_file_and_keeps_its_schema(tmp_path) -> None:
    report = reported(observed())
    path = write_report(report, tmp_path)
    assert read_report(path) == report
    Draft202012Validator(report_schema()).validate(msgspec.json.decode(path.read_bytes()))
    path.write_text("{}")
    with pytest.raises(ReportError, match="is no report"):
        read_report(path)
    with pytest.raises(ReportError, match="cannot be read"):
        read_report(tmp_path / "none.json")


def test_the_page_is_one_file_and_escapes_what_it_quotes() -> None:
    fault = StandInFault(stand_in="sms", what="<script>alert(1)</script>", behaviour={})
    phase = Phase(name="<b>bad</b>", seconds=10, faults=(fault,))
    scenario = Scenario(
        name="tried",
        purpose="<i>",
        rate_per_s=50,
        phases=(phase,),
        mix=Mix(invoices=0, duplicates=0, bad=0),
    )
    html = page_of(reported(observed(scenario)))
    for outside in ("http-equiv", "src=", "<link", "@import", "url(http", "<script", "<b>bad", "<i>"):
        assert outside not in html, outside
    assert "prefers-color-scheme:dark" in html
    assert html.count("<svg") == 5
    assert "currentColor" in html
    assert "#010203" not in html


def test_a_plot_goes_into_a_file_with_its_own_colours(tmp_path) -> None:
    path, picture = write_report(reported(observed()), tmp_path), tmp_path / "rates.svg"
    draw(path, "rates", picture)
    text = picture.read_text()
    assert text.startswith("<svg")
    assert "currentColor" not in text
    for plot, problem in (("pies", "no such plot"), ("allocator", "nothing to show")):
        with pytest.raises(SettingsError, match=problem):
            draw(path, plot, picture)
