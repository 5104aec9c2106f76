"""Each alert has a runbook, and what a runbook tells to type exists."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml
from metric_page import ROOT, metric_names, render_metrics
from prometheus_rules import SUFFIXES, alerts, promtool, rules
from runbooks import INDEX, SECTIONS, commands, expressions, pages, statements
from typer.core import TyperCommand, TyperGroup

from consumers.cli import app
from consumers.lazy_group import ListedCommand

PAGES = pages()
EVERY = [pytest.param(path, id=name) for name, path in PAGES.items()]
PROGRAM = typer.main.get_command(app)
HELPER = ROOT / "docs/how-to/watch.md"


def test_there_is_a_page_for_each_alert_and_no_other() -> None:
    assert set(PAGES) == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("path", EVERY)
def test_a_page_says_the_same_things_in_the_same_order(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {path.stem}\n\n*")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert all(part.strip() for part in re.split(r"^## .+$", text, flags=re.MULTILINE))
    assert expressions(path), "nothing to confirm it with"


@pytest.mark.parametrize("path", EVERY)
def test_a_page_names_the_severities_of_its_alert(path: Path) -> None:
    severities = {alert["labels"]["severity"] for alert in alerts() if alert["alert"] == path.stem}
    [line] = re.findall(
        rf"^\| \[{path.stem}\]\({path.name}\) \| ([a-z, ]+) \|", INDEX.read_text(), re.MULTILINE
    )
    assert set(line.split(", ")) == severities
    first = re.search(r"^\*([^*]+)\*", path.read_text(), re.MULTILINE)
    assert first is not None
    assert severities <= set(re.findall(r"page|ticket", first[1]))


@pytest.mark.parametrize("path", [*EVERY, pytest.param(INDEX, id="index")])
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text()):
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, (target, anchor)


@pytest.mark.parametrize("path", [*EVERY, pytest.param(INDEX, id="index")])
def test_commands_and_their_options_exist(path: Path) -> None:
    for line in commands(path):
        words = shlex.split(line.replace("…", ""))
        command, left = PROGRAM, words
        while isinstance(command, TyperGroup) and left and left[0] in command.commands:
            command, left = loaded(command.commands[left[0]]), left[1:]
        assert left != words, line
        assert not isinstance(command, TyperGroup) or command.invoke_without_command, line
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in left if word.startswith("--")} <= known, line


@cache
def loaded(command: TyperCommand | TyperGroup) -> TyperCommand | TyperGroup:
    return command.loaded() if isinstance(command, ListedCommand) else command


def test_promtool_reads_every_expression(tmp_path: Path) -> None:
    found = [expr for path in [*PAGES.values(), HELPER] for expr in expressions(path)]
    records = [{"record": f"runbook:{number}:number", "expr": expr} for number, expr in enumerate(found)]
    path = tmp_path / "runbooks.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": records}]}))
    checked = promtool("check", "rules", path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert len(records) > 80


def test_metrics_that_pages_name_are_there() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    served = set(metric_names()) | set(render_metrics.LIBRARY) | recorded
    for name, path in PAGES.items():
        for metric in re.findall(r"\bpostorder[_:][a-z0-9_:]+[a-z0-9]", path.read_text()):
            whole = next((metric.removesuffix(end) for end in SUFFIXES if metric.endswith(end)), metric)
            assert {metric, whole} & served, (name, metric)


@pytest.mark.parametrize("path", EVERY)
def test_settings_and_log_events_that_a_page_names_are_there(path: Path) -> None:
    known = (ROOT / "docs/reference/configuration.md").read_text()
    sections = set(re.findall(r"^## `?\[?\[?([a-z_]+)", known, re.MULTILINE))
    for section, key in re.findall(r"`([a-z_]+)\.([a-z_]*[a-z])(?: = [^`]+)?`", path.read_text()):
        is_setting = section in sections and f"`{key}`" in known
        assert is_setting or f'"{section}.{key}"' in source() or f"{section}.{key}" in OTHERS, (section, key)


OTHERS = {"cpu.stat", "pg_hba.conf"}  # files of others


@cache
def source() -> str:
    """The code that writes log lines."""
    return "".join(
        path.read_text() for room in ("pipeline", "consumers") for path in (ROOT / room).rglob("*.py")
    )


def test_statements_that_only_look_are_found() -> None:
    found = [one for path in PAGES.values() for one in statements(path)]
    assert len(found) > 12
    assert all(re.match(r"SELECT|SHOW", one) for one in found)
