"""What surrounds the pods of deploy/kubernetes: budgets, scaling, rules, who may talk to whom."""

import json
from ipaddress import ip_address, ip_network

import pytest
from deployment import DEPLOY, ROOT, read_yaml
from kubernetes_objects import OBJECTS, Object, named, of_kind

# --- disruption, scaling --------------------------------------------------------------------------


def test_every_deployment_and_the_broker_have_a_budget() -> None:
    budgets = {
        b["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        for b in of_kind("PodDisruptionBudget").values()
    }
    assert budgets == {*of_kind("Deployment"), "broker"}


def test_what_is_scaled_has_no_number_of_its_own_and_never_less_than_two() -> None:
    scaled = {
        found["spec"]["scaleTargetRef"]["name"]: found["spec"] for found in of_kind("ScaledObject").values()
    }
    for name, deployment in of_kind("Deployment").items():
        assert ("replicas" in deployment["spec"]) == (name not in scaled), name
        assert deployment["spec"].get("replicas", 2) >= 2
    for spec in scaled.values():
        assert 2 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
        behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert (
            behaviour["scaleDown"]["stabilizationWindowSeconds"]
            > behaviour["scaleUp"]["stabilizationWindowSeconds"]
        )


def test_senders_do_not_follow_what_waits() -> None:
    """While the provider is the limit, more of them send no more."""
    triggers = of_kind("ScaledObject")["notifications"]["spec"]["triggers"]
    assert [trigger["type"] for trigger in triggers] == ["cpu"]


@pytest.mark.parametrize("name", ["orders", "invoices"])
def test_consumers_follow_their_own_queue_and_stay_while_a_shard_is_the_limit(name: str) -> None:
    (trigger,) = of_kind("ScaledObject")[name]["spec"]["triggers"]
    assert trigger["metricType"] == "Value"
    query, target = trigger["metadata"]["query"], trigger["metadata"]["threshold"]
    own = f'bottleneck="intake", component="{name}"'
    waiting = 'max(postorder_work_seconds{namespace="postorder", %s})'
    shards = waiting % 'bottleneck="shards"'
    assert query == f"({waiting % own} and on() {shards} < {target}) or on() vector({target})"
    (endpoint,) = of_kind("PodMonitor")["postorder"]["spec"]["podMetricsEndpoints"]
    assert [relabeling["targetLabel"] for relabeling in endpoint["relabelings"]] == ["component"]
    documented = (ROOT / "docs/reference/metrics.md").read_text()
    for word in ("`postorder_work_seconds`", "| `intake` |", "| `shards` |"):
        assert word in documented


# --- rules ----------------------------------------------------------------------------------------


def test_the_rules_are_those_of_the_other_compositions() -> None:
    files = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
    groups = [group for path in files for group in read_yaml(path.read_text())[0]["groups"]]
    assert len(groups) > 5
    assert of_kind("PrometheusRule")["postorder"]["spec"]["groups"] == groups


# --- dashboards -----------------------------------------------------------------------------------

APPLIED_BYTES_MAX = 262_144  # of all annotations; `kubectl apply` puts the whole object into one


def test_every_dashboard_is_where_grafanas_sidecar_looks() -> None:
    found = [one for name, one in of_kind("ConfigMap").items() if name.startswith("postorder-dashboard-")]
    files = {name: text for one in found for name, text in one["data"].items()}
    assert files == {path.name: path.read_text() for path in (DEPLOY / "grafana/dashboards").iterdir()}
    for one in found:
        assert one["metadata"]["labels"] == {"grafana_dashboard": "1"}
        assert one["metadata"]["annotations"] == {"grafana_folder": "Postorder"}
    # Of an older hash in its name, one would be left over: a second dashboard with the same uid.
    assert {one["metadata"]["name"] for one in found} == {
        f"postorder-dashboard-{name.removesuffix('.json')}" for name in files
    }


@pytest.mark.parametrize("found", OBJECTS, ids=named)
def test_every_object_is_small_enough_to_be_applied(found: Object) -> None:
    """A ConfigMap may have 1 MiB, but what `kubectl apply` remembers of it may not."""
    assert len(json.dumps(found)) < APPLIED_BYTES_MAX


# --- network --------------------------------------------------------------------------------------


def selects(policy: Object, labels: dict[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    expressions = selector.get("matchExpressions", [])
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        {"Exists": one["key"] in labels, "NotIn": labels.get(one["key"]) not in one.get("values", [])}[
            one["operator"]
        ]
        for one in expressions
    )


def allowed(labels: dict[str, str], direction: str) -> set[int]:
    """The ports that the policies open to or from a pod."""
    rules = [
        rule
        for policy in of_kind("NetworkPolicy").values()
        if selects(policy, labels)
        for rule in policy["spec"].get(direction, [])
    ]
    assert all(rule.get("ports") and rule.get("to", rule.get("from")) for rule in rules)
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_nothing_is_open_but_what_is_needed() -> None:
    deny = of_kind("NetworkPolicy")["default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    common = {53, 5432, 4318}
    broker, world = {5671}, {443, 465, 587}  # senders need no broker
    listeners = {"public": {8080}, "api": {8090}}
    for name, deployment in of_kind("Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert allowed(labels, "egress") == common | (world if name == "notifications" else broker), name
        assert allowed(labels, "ingress") == {9464} | listeners.get(name, set()), name
    assert allowed({"cnpg.io/cluster": "shard0"}, "ingress") == {5432, 8000, 9187}
    assert allowed({"app.kubernetes.io/name": "broker"}, "ingress") == {4369, 25672, 5671, 15671, 15691}


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "127.0.0.1", "fd00::1", "fe80::1"]
)
def test_senders_get_to_the_world_and_not_to_the_cluster(address: str) -> None:
    (rule,) = of_kind("NetworkPolicy")["notifications"]["spec"]["egress"]
    blocks = [peer["ipBlock"] for peer in rule["to"]]

    def reached(text: str) -> bool:
        found = ip_address(text)
        return any(
            found in ip_network(block["cidr"])
            and not any(found in ip_network(gap) for gap in block["except"])
            for block in blocks
            if ip_network(block["cidr"]).version == found.version
        )

    assert not reached(address)
    assert reached("203.0.113.7")
    assert reached("2001:db8::7")
