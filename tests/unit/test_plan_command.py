"""`postorder plan` as it is typed: what it prints, its exit status, one clear line for wrong input."""

import json
import sys

import pytest

from consumers.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["postorder", "plan", *arguments])
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_plan_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--orders-per-s", "100", "--data", "50GB", "--sms-share", "20%") == 0
    out = capsys.readouterr().out
    lines = ("machines", "shards", "consumers", "amqp.prefetch", "sms.concurrency", "sender numbers")
    for what in (*lines, "broker nodes", "headroom with a shard down", "a backlog is drained in", "an hour"):
        assert what in out


def test_a_plan_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--orders-per-s", "100", "--json", "--layout", "split") == 0
    plan = json.loads(capsys.readouterr().out)
    assert set(plan["sizing"]["machines"]["by_role"]) == {"broker", "PostgreSQL", "consumers", "senders"}
    assert plan["demand"]["orders_per_s"] == 100
    assert plan["problems"] == []


def test_a_plan_that_cannot_be_met_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--orders-per-s", "10M/min", "--json") == 1
    found = capsys.readouterr()
    assert json.loads(found.out)["sizing"]["machines"]["shards"] > 1
    lines = found.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("postorder: cannot be met: 166,667 SMS/s need 1,667 senders (short_code)")


def test_the_sizing_of_the_design(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--reference", "--json") == 0
    stated = json.loads(capsys.readouterr().out)[0]
    assert (stated["machines_by_cpu"], stated["machines_by_data"]) == (435, 417)
    assert run(monkeypatch, "--reference") == 0
    out = capsys.readouterr().out
    assert "10 M orders/min" in out
    assert "measured, single events" in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "--orders-per-s: say how many"),
        (["--orders-per-s", "0"], "--orders-per-s: must be above 0, not '0'"),
        (["--orders-per-s=-5"], "--orders-per-s: must be a rate"),
        (["--orders-per-s", "many"], "--orders-per-s: must be a rate"),
        (["--orders-per-s", "5", "--data", "30"], "--data: must be a size with its unit"),
        (["--orders-per-s", "5", "--p99", "1"], "--p99: must be a time with its unit"),
        (["--orders-per-s", "5", "--p99", "1ms"], "--p99: 1 ms is less than an idle system takes"),
        (["--orders-per-s", "5", "--sms-share", "1.5"], "--sms-share: must be a share from 0 to 1"),
        (["--orders-per-s", "5", "--events-per-message", "0"], "--events-per-message: 1 to 1000, not 0"),
        (["--orders-per-s", "5", "--segments", "0"], "--segments: an SMS has 1 to 10"),
        (["--orders-per-s", "5", "--segments", "nan"], "--segments: an SMS has 1 to 10"),
        (["--orders-per-s", "5", "--sender", "pigeon"], "--sender: must be long_code"),
        (["--orders-per-s", "5", "--sender", "-1"], "--sender: must be long_code"),
        (["--orders-per-s", "5", "--cores", "-1"], "--cores: must be at least 1"),
        (["--orders-per-s", "5", "--disk", "9"], "--disk: must be a size with its unit"),
        (["--orders-per-s", "5", "--costs", "/nowhere"], "/nowhere: cannot be read: No such file"),
        (["--orders-per-s", "5", "--assumptions", "/nowhere"], "/nowhere: cannot be read: No such file"),
        (["--orders-per-s", "1e30"], "--orders-per-s: above 0 and at most 100,000,000"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert run(monkeypatch, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"postorder: {problem}")
