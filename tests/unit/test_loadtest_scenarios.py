"""Scenarios are data that hangs together; what makes no sense or would do harm is refused with a reason."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import tomlkit

from consumers.cli import main
from consumers.roles import Role
from loadtest.scenarios.catalogue import SCENARIOS, scenario_named
from loadtest.scenarios.samples import gauges_of
from loadtest.scenarios.scenario import (
    LoadTestError,
    Part,
    PartHeld,
    Phase,
    Scenario,
    StandInFault,
    Threshold,
    checked,
    scenario_of_file,
    stretched,
)
from loadtest.scenarios.target import running_target
from loadtest.scenarios.thresholds import threshold_of
from pipeline.settings import load_settings
from stack.smtp.behaviour import SmtpBehaviour
from stack.twilio.behaviour import Behaviour

REMOTE = """
[amqp]
url = "amqp://u@broker.example.com/"
[sms]
base_url = "{sms}"
[email]
host = "{email}"
[[shards]]
name = "s0"
primary = "postgresql://u@db.example.com/x"
"""


def settings(folder: Path, sms: str = "https://api.twilio.com", email: str = "127.0.0.1") -> Path:
    path = folder / "postorder.toml"
    path.write_text(REMOTE.format(sms=sms, email=email))
    return path


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_every_scenario_hangs_together(scenario: Scenario, tmp_path: Path) -> None:
    checked(scenario)
    load_settings(settings(tmp_path), {**scenario.settings})
    names = [phase.name for phase in scenario.phases]
    assert len(set(names)) == len(names)
    assert any(phase.measured for phase in scenario.phases)
    phases = {phase.name for phase in scenario.phases if phase.measured}
    for threshold in scenario.thresholds:
        where = threshold.figure.partition(".")[0]
        assert where in phases | {"knee", "peak", "drained", "memory", "allocator"}, threshold.figure
    for phase in scenario.phases:
        for fault in phase.faults:
            if isinstance(fault, StandInFault):
                kind = Behaviour if fault.stand_in == "sms" else SmtpBehaviour
                msgspec.convert(fault.behaviour, kind)
            if isinstance(fault, PartHeld):
                assert fault.part in scenario.parts


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_a_scenario_can_be_written_to_a_file_and_read(scenario: Scenario, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    plain = msgspec.json.decode(msgspec.json.encode(scenario))
    file.write_text(tomlkit.dumps(_without_none(plain)))
    assert scenario_of_file(file) == scenario


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list) else value


def test_a_file_that_is_no_scenario_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    for text, said in (
        ("name = 1", "name"),
        ("= no toml", "mine.toml"),
        ('name = "x"\nrates = 3', "mine.toml"),
        ('name = "x"\npurpose = "y"\nrate_per_s = 1\nphases = []', "of length >= 1"),
    ):
        file.write_text(text)
        with pytest.raises(LoadTestError, match=said):
            scenario_of_file(file)


def test_shards_that_are_all_idle_are_refused() -> None:
    idle = msgspec.structs.replace(scenario_named("steady"), shards=2, idle_shards=2)
    with pytest.raises(LoadTestError, match="2 of 2 shards idle"):
        stretched(idle, rate_per_s=None, seconds=None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phases": (Phase(name="noon", seconds=1), Phase(name="noon", seconds=2))}, "noon: two phases"),
        ({"thresholds": (Threshold(figure="noon.p99_ms"),)}, "threshold of noon.p99_ms: give one"),
        ({"thresholds": (Threshold(figure="a", at_most=1, at_least=1),)}, "threshold of a: give one"),
    ],
)
def test_figures_of_one_name_and_bounds_that_are_none_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadTestError, match=said):
        checked(msgspec.structs.replace(scenario_named("steady"), **changes))


def test_stretching_keeps_the_proportions() -> None:
    burst = stretched(scenario_named("burst"), rate_per_s=10, seconds=30)
    assert burst.seconds == pytest.approx(30)
    before = {phase.name: phase.seconds for phase in scenario_named("burst").phases}
    assert [phase.seconds for phase in burst.phases] == pytest.approx([s / 2 for s in before.values()])
    assert burst.rate_per_s == 10


@pytest.mark.parametrize(
    ("rate", "seconds", "said"),
    [
        (0, None, "above 0"),
        (-5, None, "above 0"),
        (float("nan"), None, "above 0"),
        (1e6, None, "up to 100,000"),
        (None, 0, "above 0"),
        (None, float("inf"), "a week"),
        (90_000, 10_000, "20,000,000 at most"),
    ],
)
def test_absurd_rates_and_lengths_are_refused(rate: float | None, seconds: float | None, said: str) -> None:
    with pytest.raises(LoadTestError, match=said):
        stretched(scenario_named("steady"), rate_per_s=rate, seconds=seconds)


def test_thresholds_of_a_command_line() -> None:
    assert threshold_of("steady.committed.p99_ms<=250") == Threshold(
        figure="steady.committed.p99_ms", at_most=250
    )
    assert threshold_of(" a.sms owed to claimed.p50_ms >= 1.5") == Threshold(
        figure="a.sms owed to claimed.p50_ms", at_least=1.5
    )
    for wrong in ("", "a<5", "a<=", "<=5", "a<=b", "a<=-1", "a==5", "a<=5_", "a<=1__0"):
        with pytest.raises(LoadTestError, match="must be FIGURE"):
            threshold_of(wrong)


def test_what_would_break_a_running_installation_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path, sms="http://127.0.0.1:9")
    for name in ("shard-down", "reshard"):
        with pytest.raises(LoadTestError, match="--may-break-this-installation"):
            running_target(config, scenario_named(name), may_break=False, may_send=True)
    assert running_target(config, scenario_named("steady"), may_break=False, may_send=False)


@pytest.mark.parametrize(
    "where", [{}, {"sms": "http://127.0.0.1:9", "email": "mail.example.com"}], ids=["sms", "mail"]
)
def test_messages_that_would_reach_people_are_refused(tmp_path: Path, where: dict[str, str]) -> None:
    config = settings(tmp_path, **where)
    with pytest.raises(LoadTestError, match="--may-send-messages"):
        running_target(config, scenario_named("steady"), may_break=False, may_send=False)
    assert running_target(config, scenario_named("steady"), may_break=False, may_send=True).stack is None
    # Without a sender nothing goes out.
    assert running_target(config, scenario_named("ramp-intake"), may_break=False, may_send=False)


def test_stand_ins_that_are_not_there_cannot_be_commanded(tmp_path: Path) -> None:
    config = settings(tmp_path, sms="http://127.0.0.1:9")
    with pytest.raises(LoadTestError, match="leave --config out"):
        running_target(config, scenario_named("provider-outage"), may_break=True, may_send=True)


def test_the_few_metrics_looked_at_are_found_on_a_page() -> None:
    page = (
        "# HELP postorder_buffered_events x\n# TYPE postorder_buffered_events gauge\n"
        "postorder_buffered_events 17.0\n"
        'postorder_slot_limit{slot="sms"} 12.0\n'
        'postorder_held_back_total{channel="sms",reason="circuit_open"} 3.0\n'
        'postorder_write_seconds_bucket{le="1.0",shard="s0"} 5.0\n'
    )
    assert gauges_of(page) == {
        "buffered_events{}": 17.0,
        "slot_limit{sms}": 12.0,
        "held_back_total{sms,circuit_open}": 3.0,
    }


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A folder with settings of what is not there; commands may set logging up as they like."""
    (tmp_path / "there.toml").write_text(
        '[[shards]]\nname = "s0"\nprimary = "postgresql://u@127.0.0.1:9/x"\n'
        '[amqp]\nurl = "amqp://u@127.0.0.1:9/"\n'
        '[sms]\nbase_url = "http://127.0.0.1:9"\n[email]\nhost = "127.0.0.1"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield tmp_path
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "nosuch"], (2, "no such scenario: there are steady")),
        (["run", "steady", "--rate", "1e12"], (2, "up to 100,000")),
        (["run", "steady", "--orders", "10"], (2, "replays no history")),
        (["run", "steady", "--threshold", "x"], (2, "must be FIGURE")),
        (["run", "steady", "--config", "none.toml"], (2, "none.toml")),
        (["compare", "a.json", "b.json"], (2, "a.json: cannot be read")),
        (["run", "steady", "--config", "there.toml"], (1, "127.0.0.1:9")),
    ],
)
def test_wrong_use_is_one_line(
    in_folder: Path, capsys, monkeypatch, arguments: list[str], expected: tuple[int, str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["postorder", "loadtest", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == expected[0]
    [line] = capsys.readouterr().err.splitlines()
    assert expected[1] in line


def test_parts_have_the_roles_of_the_pipeline() -> None:
    assert {role for part in Part for role in part.roles.split(",")} <= set(Role)
