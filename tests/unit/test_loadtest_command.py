"""`postorder loadtest`: a scenario's name alone runs it, and wrong use is refused before anything starts."""

import sys
from pathlib import Path

import msgspec
import pytest
from load_runs import STEADY, observed, reported
from typer.testing import CliRunner

from consumers.cli import app, main
from loadtest.scenarios import command as loadtest_command
from loadtest.scenarios.catalogue import SCENARIOS, scenario_named
from loadtest.scenarios.figure_names import check_thresholds, figure_names
from loadtest.scenarios.scenario import LoadTestError, Part, PartHeld, Phase, Ramp, Scenario
from loadtest.scenarios.target import shard_names


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """The status that `postorder loadtest` ends with."""
    monkeypatch.setattr(sys, "argv", ["postorder", "loadtest", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


@pytest.mark.parametrize("name", ["steady", "lunch.toml"])
def test_a_scenarios_name_runs_it_with_the_options_of_run(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[object, ...]] = []

    def scenario(*arguments: object) -> None:
        asked.append(arguments)
        raise LoadTestError("as far as this")

    monkeypatch.setattr(loadtest_command, "_scenario", scenario)
    options = ("--rate", "30", "--seconds", "5", "--seed", "7", "--threshold", "peak.sms_per_s>=1")
    for words in ((name,), ("run", name)):
        assert ended(monkeypatch, *words, *options, "--out", str(tmp_path)) == 2
    assert [found[:5] for found in asked] == [(name, 30.0, 5.0, 7, ["peak.sms_per_s>=1"])] * 2


@pytest.mark.parametrize(("name", "near"), [("stedy", "'steady'"), ("compar", "'compare'"), ("x", "list`")])
def test_a_name_that_is_neither_is_told_the_nearest_of_both(name: str, near: str) -> None:
    found = CliRunner().invoke(app, ["loadtest", name])
    assert found.exit_code == 2
    assert f"No such scenario or command '{name}'." in found.stderr
    assert near in found.stderr


def test_an_option_that_is_none_is_named() -> None:
    found = CliRunner().invoke(app, ["loadtest", "--rte", "5"])
    assert found.exit_code == 2
    assert "No such option: --rte" in found.stderr


@pytest.fixture
def far_away(tmp_path: Path) -> str:
    """Settings of an installation whose messages reach people, and which is not there."""
    file = tmp_path / "postorder.toml"
    file.write_text(
        '[[shards]]\nname = "s0"\nprimary = "postgresql://u@127.0.0.1:9/x"\n'
        '[amqp]\nurl = "amqp://u@127.0.0.1:9/"\n[email]\nhost = "mail.example.com"\n'
    )
    return str(file)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("steady",), "--may-send-messages"),
        (("reshard",), "--may-break-this-installation"),
        (("provider-outage", "--may-send-messages"), "leave --config out"),
    ],
)
def test_what_is_not_allowed_there_is_wrong_use(
    arguments: tuple[str, ...], said: str, far_away: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert ended(monkeypatch, *arguments, "--config", far_away) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_rate_at_which_nothing_comes_is_refused_before_a_stack_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert ended(monkeypatch, "steady", "--rate", "0.0001", "--out", str(tmp_path / "out")) == 2
    assert "raise --rate" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("moments", "said"),
    [
        ("2026-11-21T10:00:00Z\n", "two orders or more"),
        ("", "two orders or more"),
        ("2026-11-21T10:00:00Z\n" * 3, "no rhythm"),
    ],
)
def test_a_history_that_cannot_be_replayed_is_refused_before_a_stack_starts(
    moments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    file = tmp_path / "moments.csv"
    file.write_text(moments)
    monkeypatch.setattr(loadtest_command, "_target", lambda *_, **__: pytest.fail("it started"))
    assert ended(monkeypatch, "replay", "--history", str(file), "--out", str(tmp_path)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    "figure",
    [
        "foo",
        "steady.comitted.p99_ms",
        "steady.committed.p98_ms",
        "warm-up.committed.p99_ms",  # not measured
        "steady.committed_shard2.p99_ms",  # there are two
        "knee.orders_per_s",
        "drained.orders_per_s",
        "allocator.turns",
    ],
)
def test_a_threshold_on_what_no_run_has_is_refused_before_it(
    figure: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    monkeypatch.setattr(loadtest_command, "_target", lambda *_, **__: pytest.fail("it started"))
    assert ended(monkeypatch, "steady", "--threshold", f"{figure}<=1", "--out", str(tmp_path)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"threshold of {figure}: a run of steady has no such figure" in line


def test_a_threshold_of_a_file_is_looked_at_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    file = tmp_path / "lunch.toml"
    file.write_text(
        'name = "lunch"\npurpose = "x"\nrate_per_s = 40\n[[phases]]\nname = "noon"\nseconds = 20\n'
        '[[thresholds]]\nfigure = "non.committed.p99_ms"\nat_most = 200\n'
    )
    monkeypatch.setattr(loadtest_command, "_target", lambda *_, **__: pytest.fail("it started"))
    assert ended(monkeypatch, str(file), "--out", str(tmp_path)) == 2
    assert "noon.committed.p99_ms" in capsys.readouterr().err  # the nearest


def test_shards_are_those_of_the_installation(far_away: str) -> None:
    scenario = scenario_named("steady")
    names = figure_names(scenario, shard_names(scenario, Path(far_away)))
    assert "steady.committed_s0.p99_ms" in names
    assert "steady.committed_shard0.p99_ms" not in names


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_every_scenarios_own_thresholds_are_on_figures_there_are(scenario: Scenario) -> None:
    check_thresholds(scenario, shard_names(scenario, None))


@pytest.mark.parametrize("ramp", [None, Ramp()])
@pytest.mark.parametrize("parts", [tuple(Part), (Part.INTAKE,)])
def test_every_figure_of_a_report_has_a_name_that_is_known_before(
    ramp: Ramp | None, parts: tuple[Part, ...]
) -> None:
    held = Phase(name="pile-up", seconds=5, faults=(PartHeld(part=Part.INTAKE),))
    phases = (STEADY.phases[0], held, Phase(name="drain", seconds=300))
    scenario = msgspec.structs.replace(STEADY, ramp=ramp, phases=phases, rate_per_s=20, parts=parts)
    figures = reported(observed(scenario, sends=scenario.sends)).figures
    assert any(name.startswith("drained.") for name in figures)
    assert "memory.growth_mb_per_h" in figures
    assert set(figures) <= figure_names(scenario, ["shard0", "shard1"])
