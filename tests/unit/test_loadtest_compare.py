"""Two runs compared: a difference counts only when it is more than runs of the same differ by."""

from io import StringIO

import msgspec
import numpy as np
import pytest
from load_runs import STEADY, observed, reported
from rich.console import Console

from loadtest.scenarios.compare import NOISE_MIN, Comparison, compare, print_comparison
from loadtest.scenarios.scenario import Part, Phase, Ramp


def verdicts(first_s: float, second_s: float) -> dict[str, tuple[float | None, str]]:
    found = compare(reported(observed(committed_s=first_s)), reported(observed(committed_s=second_s)))
    return {one.figure: (one.ratio, one.verdict) for one in found.ratios}


def test_a_slower_run_is_worse_and_a_quicker_one_better() -> None:
    ratio, verdict = verdicts(0.05, 0.10)["steady.committed.p99_ms"]
    assert (ratio, verdict) == (pytest.approx(2.0, rel=0.01), "worse")
    ratio, verdict = verdicts(0.10, 0.05)["steady.committed.p99_ms"]
    assert (ratio, verdict) == (pytest.approx(0.5, rel=0.01), "better")


def test_the_same_again_is_noise() -> None:
    assert {verdict for _, verdict in verdicts(0.05, 0.051).values()} == {"within noise"}


def test_runs_that_scatter_need_more_to_differ() -> None:
    rng = np.random.default_rng(1)

    def scattered(planned: np.ndarray) -> np.ndarray:
        return 0.05 * np.exp(rng.normal(0, 0.8, len(planned))) * np.where(planned % 10 < 5, 1.0, 1.6)

    found = compare(reported(observed(committed_s=scattered)), reported(observed(committed_s=0.06)))
    noise = {one.figure: one.noise for one in found.ratios}
    assert noise["steady.committed.p50_ms"] > 3 * NOISE_MIN
    assert noise["steady.committed_shard0.p50_ms"] == noise["steady.committed.p50_ms"]


def test_runs_that_are_no_pair_are_told() -> None:
    other = msgspec.structs.replace(STEADY, rate_per_s=50)
    found = compare(reported(observed()), reported(observed(other, interrupted=True)))
    assert any("scenarios are not the same" in warning for warning in found.warnings)
    assert any("second run is not valid" in warning for warning in found.warnings)
    ratio = next(one for one in found.ratios if one.figure == "steady.orders_per_s")
    assert (ratio.verdict, ratio.ratio) == ("worse", pytest.approx(0.5, rel=0.15))


def test_what_did_not_come_was_not_quick() -> None:
    seen = observed()
    whole, lost = reported(seen), reported(seen._replace(sms_at=np.full(len(seen.sms_at), np.nan)))
    assert lost.problems == []
    found = compare(whole, lost)
    verdict = {one.figure: one.verdict for one in found.ratios}
    assert verdict["steady.sms_accepted.p99_ms"] == verdict["steady.sms_accepted_shard1.p50_ms"] == "worse"
    assert verdict["steady.committed.p99_ms"] == "within noise"
    assert found.exit_status == 1
    first_row = next(line for line in printed(found).splitlines() if "steady." in line)
    assert "worse: nothing came" in first_row
    back = compare(lost, whole)
    assert {one.verdict for one in back.ratios} == {"only one has it", "within noise"}
    assert back.exit_status == 0


def test_a_run_that_did_not_add_up_is_worse_than_one_that_did() -> None:
    whole, short = reported(observed()), reported(observed(failures=["a part ended"]))
    found = compare(whole, short)
    assert found.warnings == ["the second run did not add up: a part ended"]
    assert [one.figure for one in found.ratios if one.verdict == "worse"] == ["problems"]
    assert found.exit_status == 1
    assert "worse: did not add up" in printed(found)
    assert compare(short, whole).exit_status == compare(short, short).exit_status == 0


def test_what_the_other_scenario_has_not_is_not_worse() -> None:
    for changes in (
        {"phases": (STEADY.phases[0], Phase(name="noon", seconds=20))},
        {"parts": (Part.INTAKE,)},
        {"mix": msgspec.structs.replace(STEADY.mix, sms_share=0.0)},
    ):
        other = msgspec.structs.replace(STEADY, **changes)
        found = compare(reported(observed()), reported(observed(other, sends=other.sends)))
        verdict = {one.figure: one.verdict for one in found.ratios}
        assert verdict["steady.sms_accepted.p99_ms"] == "only one has it"


def test_a_ramp_that_ended_a_step_earlier_is_judged_by_its_knee() -> None:
    scenario = msgspec.structs.replace(
        STEADY, ramp=Ramp(), phases=(*STEADY.phases, Phase(name="next", seconds=5))
    )
    seen = observed(scenario)
    found = compare(reported(seen), reported(seen._replace(spans=seen.spans[:-1])))
    verdict = {one.figure: one.verdict for one in found.ratios}
    assert verdict["next.committed.p99_ms"] == "only one has it"
    assert found.exit_status == 0


def printed(found: Comparison) -> str:
    """What is shown of a comparison."""
    console = Console(width=200, file=StringIO())
    print_comparison(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]
