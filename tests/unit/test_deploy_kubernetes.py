"""deploy/kubernetes against the published schemas, and against itself and the program."""

import json
import re
from ipaddress import ip_address, ip_network
from typing import Any

import kubernetes_validate
import pytest
import yaml
from deployment import DEPLOY, ROOT, violations

from consumers.roles import Role
from pipeline.dsn import parse_dsn
from pipeline.settings import Settings, load_settings

FOLDER = DEPLOY / "kubernetes"
VERSIONS = ("1.34", "1.37")  # the oldest and the newest that it is meant for
CUSTOM = yaml.safe_load((ROOT / "tests/data/kubernetes/custom-resources.yaml").read_text())
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
SETTINGS = KUSTOMIZATION["configMapGenerator"][0]

WITHOUT_SCHEMA = {"podAntiAffinity"}  # the one part whose schema is not written out

Object = dict[str, Any]


def objects() -> list[Object]:
    """Everything that `kubectl apply -k` would apply, but for the settings."""
    return [
        document
        for name in KUSTOMIZATION["resources"]
        for document in yaml.safe_load_all((FOLDER / name).read_text())
    ]


OBJECTS = objects()


def named(found: Object) -> str:
    return f"{found['apiVersion']} {found['kind']} {found['metadata']['name']}"


def of_kind(kind: str) -> dict[str, Object]:
    return {found["metadata"]["name"]: found for found in OBJECTS if found["kind"] == kind}


def pods() -> dict[str, Object]:
    """The pod templates of the pipeline."""
    return {
        named(found): found["spec"]["template"] for found in OBJECTS if found["kind"] in ("Deployment", "Job")
    }


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def wrong_in(found: Object, version: str) -> list[str]:
    """What is wrong with an object by its schema: Kubernetes' own, or that of its custom resource."""
    kind = f"{found['apiVersion']} {found['kind']}"
    if kind in CUSTOM:
        return violations(found["spec"], CUSTOM[kind])
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [error.message]
    return []


# --- schemas --------------------------------------------------------------------------------------


def test_every_file_is_applied() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert there == set(KUSTOMIZATION["resources"])
    assert all((FOLDER / name).is_file() for name in SETTINGS["files"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("found", OBJECTS, ids=named)
def test_is_valid_by_its_schema(found: Object, version: str) -> None:
    assert wrong_in(found, version) == []
    assert not set(found) - {"apiVersion", "kind", "metadata", "spec"}


@pytest.mark.parametrize("found", OBJECTS, ids=named)
def test_the_schema_notices_a_word_that_is_misspelt(found: Object) -> None:
    """At the top and one level down: a schema that lets anything through defends nothing."""
    places = [lambda spec: spec] + [
        lambda spec, key=key: spec[key]
        for key, value in found.get("spec", {}).items()
        if isinstance(value, dict)
    ]
    for place in places:
        broken = json.loads(json.dumps(found))
        place(broken.setdefault("spec", {}))["misspelt"] = {"a": "b"}
        if place(found.get("spec", {})).keys() != WITHOUT_SCHEMA:
            assert wrong_in(broken, VERSIONS[-1])


def test_names_are_used_once() -> None:
    names = [named(found) for found in OBJECTS]
    assert sorted(set(names)) == sorted(names)
    assert {found["metadata"].get("namespace", "postorder") for found in OBJECTS} == {"postorder"}


# --- pods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pods())
def test_every_pod_keeps_to_the_restricted_standard(name: str) -> None:
    pod = pods()[name]["spec"]
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 10001
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in containers(pods()[name]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}


@pytest.mark.parametrize("name", pods())
def test_no_pod_gets_variables_of_services(name: str) -> None:
    """The program refuses POSTORDER_… variables that it does not know."""
    assert pods()[name]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("name", of_kind("Deployment"))
def test_every_role_is_probed_on_the_ops_port_and_drains_before_it_is_killed(
    name: str, settings: Settings
) -> None:
    deployment = of_kind("Deployment")[name]
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["ops"] == settings.ops.metrics_port
    assert settings.ops.metrics_host == "0.0.0.0"
    paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in paths.values()} == {"ops"}
    assert [paths[kind]["path"] for kind in ("startup", "liveness", "readiness")] == [
        "/livez",
        "/livez",
        "/readyz",
    ]
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["spec"]["terminationGracePeriodSeconds"] >= pause + settings.ops.drain_timeout_s + 10
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    zones = [spread["topologyKey"] for spread in pod["spec"]["topologySpreadConstraints"]]
    assert zones == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_every_role_has_a_deployment() -> None:
    roles = [
        container["args"][2]
        for pod in of_kind("Deployment").values()
        for container in pod["spec"]["template"]["spec"]["containers"]
    ]
    assert {"order-processed", "invoice-generated", "customer-updated", "notifications", "public"} <= set(
        roles
    )
    assert set(roles) <= set(Role)


@pytest.mark.parametrize("name", pods())
def test_what_is_mounted_is_there(name: str) -> None:
    pod = pods()[name]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for container in containers(pod):
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["settings"]["configMap"]["name"] == SETTINGS["name"]
    made = {"broker-default-user", "postorder-secrets"}  # by the operator, and by hand
    made |= {f"{shard}-app" for shard in of_kind("Cluster")}
    made |= {certificate["spec"]["secretName"] for certificate in of_kind("Certificate").values()}
    assert {v["secret"]["secretName"] for v in volumes.values() if "secret" in v} <= made


# --- settings -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The pods' settings, read by the program, with a file for each secret that they name."""
    folder = tmp_path_factory.mktemp("kubernetes")
    text = (FOLDER / "postorder.toml").read_text()
    for path in re.findall(r'"(/run/secrets/[^"]+)"', text):
        secret = folder / path.lstrip("/")
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text("x" * 40)
    (folder / "postorder.toml").write_text(text.replace("/run/secrets", f"{folder}/run/secrets"))
    (variable,) = [
        variable["value"]
        for variable in containers(next(iter(pods().values())))[0]["env"]
        if variable["name"] == "POSTORDER_AMQP_URL"
    ]
    url = variable.replace("$(BROKER_USER)", "default_user_1")
    return load_settings(folder / "postorder.toml", {"POSTORDER_AMQP_URL": url})


def test_shards_are_the_clusters_and_are_reached_with_verified_tls(settings: Settings) -> None:
    clusters, certificates = of_kind("Cluster"), of_kind("Certificate")
    assert {shard.name for shard in settings.shards} == set(clusters)
    for shard in settings.shards:
        names = certificates[f"{shard.name}-tls"]["spec"]["dnsNames"]
        for dsn, service in ((shard.primary, "rw"), (shard.replica, "ro")):
            parts = parse_dsn(dsn)
            assert [address.host for address in parts.addresses] == [f"{shard.name}-{service}.postorder.svc"]
            assert parts.addresses[0].host in names
            assert parts.parameters == {"sslmode": "verify-full", "sslrootcert": "/projected/ca.crt"}


def test_the_broker_is_reached_with_verified_tls(settings: Settings) -> None:
    broker = of_kind("RabbitmqCluster")["broker"]["spec"]
    assert broker["replicas"] == 3
    assert broker["tls"]["disableNonTLSListeners"] is True
    assert settings.amqp.url == "amqps://default_user_1@broker.postorder.svc:5671/?cafile=/projected/ca.crt"
    assert "broker.postorder.svc" in of_kind("Certificate")[broker["tls"]["secretName"]]["spec"]["dnsNames"]


@pytest.mark.parametrize("name", of_kind("Cluster"))
def test_commits_of_each_shard_wait_for_its_replica(name: str) -> None:
    spec = of_kind("Cluster")[name]["spec"]
    assert spec["instances"] == 2
    assert spec["postgresql"]["synchronous"] == {"method": "any", "number": 1, "dataDurability": "required"}
    assert spec["postgresql"]["parameters"]["synchronous_commit"] == "on"
    assert spec["enableSuperuserAccess"] is False
    assert spec["enablePDB"] is True


def test_shards_differ_in_their_names_alone() -> None:
    first, *others = ((FOLDER / f"{name}.yaml").read_text() for name in sorted(of_kind("Cluster")))
    for number, other in enumerate(others, start=1):
        assert other.replace(f"shard{number}", "shard0") == first


def test_every_connection_fits_into_a_server(settings: Settings) -> None:
    """Every pod at its ceiling, to one server."""
    ceilings = {
        s["spec"]["scaleTargetRef"]["name"]: s["spec"]["maxReplicaCount"]
        for s in of_kind("ScaledObject").values()
    }
    pods_max = sum(
        ceilings.get(name, d["spec"].get("replicas", 0)) + 1 for name, d in of_kind("Deployment").items()
    )
    for cluster in of_kind("Cluster").values():
        allowed = int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
        assert (
            pods_max * settings.storage.connections_max < allowed * 2
        )  # pools are seldom full: see the guide
        assert pods_max * 4 < allowed


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
    own = f'bottleneck="intake", app_kubernetes_io_name="{name}"'
    waiting = 'max(postorder_work_seconds{namespace="postorder", %s})'
    shards = waiting % 'bottleneck="shards"'
    assert query == f"({waiting % own} and on() {shards} < {target}) or on() vector({target})"
    assert "app.kubernetes.io/name" in of_kind("PodMonitor")["postorder"]["spec"]["podTargetLabels"]
    documented = (ROOT / "docs/reference/metrics.md").read_text()
    for word in ("`postorder_work_seconds`", "| `intake` |", "| `shards` |"):
        assert word in documented


# --- network --------------------------------------------------------------------------------------


def selects(policy: Object, labels: dict[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    expressions = selector.get("matchExpressions", [])
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        expression["operator"] == "Exists" and expression["key"] in labels for expression in expressions
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
    common = {53, 5432, 5671}
    for name, deployment in of_kind("Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert allowed(labels, "egress") == common | (
            {443, 465, 587} if name == "notifications" else set()
        ), name
        assert allowed(labels, "ingress") == ({9464, 8080} if name == "public" else {9464}), name
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
