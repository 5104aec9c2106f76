"""The rules: promtool reads and tries them, and they name no metric that there is not."""

import re
from pathlib import Path

import pytest
import yaml
from metric_page import metric_names, render_metrics
from prometheus_rules import FOLDER, RULES, SUFFIXES, alerts, promtool, rules

RUNBOOKS = "{{ with $externalLabels.runbooks }}{{ . }}{{ else }}docs/how-to/alerts{{ end }}"
TESTS = sorted((FOLDER / "tests").glob("*.yml"))


def test_promtool_takes_the_configuration_and_the_rules() -> None:
    for checked in (
        promtool("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml"),
        promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES),
    ):
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path: Path) -> None:
    tried = promtool("test", "rules", path)
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_every_alert_is_tried_firing() -> None:
    tests = [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    fired = {
        (case["alertname"], alert["exp_labels"]["severity"]) for case in cases for alert in case["exp_alerts"]
    }
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fired == {(alert["alert"], alert["labels"]["severity"]) for alert in alerts()}
    assert len(quiet) >= 6


def test_no_rule_names_a_metric_that_there_is_not() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    served = set(metric_names()) | set(render_metrics.LIBRARY) | {"up"}
    for rule in rules():
        expression = re.sub(r'"[^"]*"', "", rule["expr"])
        for name in re.findall(r"\b(?:postorder[:_]|process_|python_)[a-z0-9_:]+", expression):
            whole = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
            assert {name, whole} & (served | recorded), name


def test_labels_in_rules_are_labels_of_their_metrics() -> None:
    labels = {one.name: {*one.labels, "le"} for one in render_metrics.described()}
    for rule in rules():
        for name, matchers in re.findall(r"\b(postorder_[a-z0-9_]+)\{([^}]*)\}", rule["expr"]):
            whole = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= labels.get(name, labels.get(whole, set())), (
                name
            )


def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}/{alert['alert']}.md"
        assert "for" in alert
