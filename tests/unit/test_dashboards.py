"""The Grafana dashboards: as the generator writes them, of metrics that there are, and readable."""

import json
import re
import sys
from importlib import import_module
from typing import Any

import pytest
import yaml
from deployment import compose
from grafana_boards import FOLDER, boards, interpolated, panels, queries
from metric_page import ROOT, metric_names, render_metrics
from prometheus_rules import SUFFIXES, promtool, rules

pytestmark = pytest.mark.filterwarnings("ignore:Prefer using dashboardv2")

sys.path.append(str(ROOT / "scripts"))
render_dashboards = import_module("render_dashboards")

BOARDS = boards()
NAMES = ("broker", "intake", "notifications", "overview", "processes", "resharding", "shards")
# The broker's own: of its plugin rabbitmq_prometheus.
RABBITMQ = {
    "rabbitmq_alarms_memory_used_watermark", "rabbitmq_alarms_free_disk_space_watermark",
    "rabbitmq_connections",
    "rabbitmq_disk_space_available_bytes", "rabbitmq_process_resident_memory_bytes", "rabbitmq_build_info",
    "rabbitmq_resident_memory_limit_bytes", "rabbitmq_global_messages_received_total",
    "rabbitmq_global_messages_confirmed_total", "rabbitmq_global_messages_delivered_total",
    "rabbitmq_global_messages_acknowledged_total", "rabbitmq_global_messages_redelivered_total",
}  # fmt: skip
OTHERS = {"up", "ALERTS", "process_max_fds"}


def bare(expr: str) -> str:
    """An expression without texts and without what is in brackets."""
    return re.sub(r'"[^"]*"|\[[^\]]*\]', "", expr)


def test_the_files_are_what_the_generator_writes() -> None:
    there = {path.name: path.read_text() for path in (FOLDER / "dashboards").iterdir()}
    assert there == render_dashboards.rendered(), "run `make docs`"
    assert tuple(BOARDS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_grafanas_own_types_read_all_of_a_dashboard(name: str) -> None:
    """What its types do not know would be left out on the way."""
    read = render_dashboards.Dashboard.from_json(BOARDS[name])
    assert lost(BOARDS[name], json.loads(render_dashboards.text_of(read))) == []


def lost(before: Any, after: Any, where: str = "") -> list[str]:
    """What is in a document and not, or otherwise, in the other."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [one for key in before for one in lost(before[key], after.get(key), f"{where}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [one for place, (old, new) in pairs for one in lost(old, new, f"{where}/{place}")]
    return [] if before == after else [where]


def test_names_are_unique_and_fit_into_grafana() -> None:
    uids = [board["uid"] for board in BOARDS.values()]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 40 and re.fullmatch(r"[a-z-]+", uid) for uid in uids)
    for board in BOARDS.values():
        titles = [panel["title"] for panel in panels(board) if panel["type"] != "text"]
        assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", NAMES)
def test_panels_lie_in_the_grid_and_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in panels(BOARDS[name]):
        if panel["type"] == "text":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            if panel["type"] == "timeseries" and len(panel["targets"]) > 1:
                assert target["legendFormat"] != "__auto", panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_variables_that_are_used_are_there_and_can_be_left_open(name: str) -> None:
    variables = {one["name"]: one for one in BOARDS[name]["templating"]["list"]}
    used = {word for asked in queries() if asked.board == name for word in re.findall(r"\$(\w+)", asked.expr)}
    assert used - {"__rate_interval"} == variables.keys() - {"datasource"}
    for variable in variables.values():
        if variable["type"] == "query":
            assert (variable["allValue"], variable["includeAll"]) == (".*", True)
            metric, label = re.fullmatch(
                r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variable["query"]["query"]
            ).groups()
            assert metric in metric_names()
            assert label == variable["name"]


def test_no_panel_asks_for_a_metric_that_there_is_not() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    served = set(metric_names()) | set(render_metrics.LIBRARY) | recorded | RABBITMQ | OTHERS
    for asked in queries():
        names = re.findall(
            r"\b(?:postorder[:_]|process_|python_|rabbitmq_|up\b|ALERTS)[a-z0-9_:]*", bare(asked.expr)
        )
        assert names, asked.name
        for metric in names:
            whole = next((metric.removesuffix(end) for end in SUFFIXES if metric.endswith(end)), metric)
            assert {metric, whole} & served, (asked.name, metric)


def test_every_selector_tells_installations_apart() -> None:
    """A metric without the namespace's selector would mix them."""
    for asked in queries():
        for metric, selector in re.findall(
            r"\b((?:postorder|process|python|rabbitmq)[_:][a-z0-9_:]+)(\{[^}]*\})?", asked.expr
        ):
            assert 'namespace=~"$namespace"' in selector, (asked.name, metric)


def test_labels_of_panels_are_labels_of_their_metrics() -> None:
    labels = {
        one.name: {*one.labels, "le", "namespace", "instance", "job"} for one in render_metrics.described()
    }
    for asked in queries():
        for metric, selector in re.findall(r"\b(postorder_[a-z0-9_]+)\{([^}]*)\}", asked.expr):
            whole = next((metric.removesuffix(end) for end in SUFFIXES if metric.endswith(end)), metric)
            known = labels.get(metric, labels.get(whole, set()))
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= known, (asked.name, metric)


def test_every_metric_is_on_a_dashboard() -> None:
    """Or in a rule."""
    shown = " ".join(asked.expr for asked in queries()) + " ".join(rule["expr"] for rule in rules())
    missing = {
        name for name in metric_names() if not re.search(rf"\b{name}(?:_bucket|_sum|_count)?\b", shown)
    }
    assert missing == set()


def test_promtool_reads_every_query(tmp_path: Any) -> None:
    records = [
        {"record": f"panel:number_{number}", "expr": interpolated(asked.expr)}
        for number, asked in enumerate(queries())
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    checked = promtool("check", "rules", path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert len(records) > 100


def test_grafana_finds_its_files_where_compose_mounts_them() -> None:
    mounts = dict(
        one.split(":")[:2] for one in compose()["services"]["grafana"]["volumes"] if one.startswith("./")
    )
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    folder = FOLDER / "provisioning"
    [provider] = yaml.safe_load((folder / "dashboards/postorder.yml").read_text())["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    [source] = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    host, port = re.fullmatch(r"http://([a-z]+):(\d+)", source["url"]).groups()
    assert host in compose()["services"]
    assert f"0.0.0.0:{port}" in " ".join(compose()["services"][host]["command"])
    [scraped] = {config["global"]["scrape_interval"] for config in [yaml.safe_load(PROMETHEUS.read_text())]}
    assert source["jsonData"]["timeInterval"] == scraped


PROMETHEUS = ROOT / "deploy/prometheus/prometheus.yml"
