"""`postorder loadtest`: a scenario's name alone runs it, and wrong use is refused before anything starts."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.cli import app, main
from loadtest.scenarios import command as loadtest_command
from loadtest.scenarios.scenario import LoadTestError


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
