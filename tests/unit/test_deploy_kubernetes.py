"""deploy/kubernetes as kustomize makes it, against the published schemas, itself and the program."""

import json
import shutil
from pathlib import Path

import pytest
from deployment import grace_needed_s, read_yaml
from kubernetes_objects import (
    FOLDER,
    KUSTOMIZATION,
    OBJECTS,
    VERSIONS,
    Object,
    container,
    named,
    of_kind,
    pods,
    rendered,
    settings_of_pod,
    wrong_in,
)

from consumers.roles import Role
from pipeline.dsn import parse_dsn
from pipeline.settings import Settings

WITHOUT_SCHEMA = {"podAntiAffinity"}  # the one part whose schema is not written out


# --- schemas --------------------------------------------------------------------------------------


def test_every_file_is_applied() -> None:
    there = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}
    generated = {name for one in KUSTOMIZATION["configMapGenerator"] for name in one["files"]}
    patches = {patch["path"] for patch in KUSTOMIZATION["patches"]}
    assert {*there, "../grafana"} == {*KUSTOMIZATION["resources"], *generated, *patches}


def test_a_word_misspelt_in_a_patch_is_noticed(tmp_path: Path) -> None:
    """kustomize takes anything: what comes of it is what the schema has to look at."""
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    shutil.copytree(FOLDER.parent / "grafana", tmp_path / "grafana")
    patch = tmp_path / "kubernetes/role.yaml"
    patch.write_text(patch.read_text().replace("failureThreshold", "failuresThreshold"))
    broken = {one["kind"]: one for one in read_yaml(rendered(tmp_path / "kubernetes"))}
    assert "failuresThreshold" in " ".join(wrong_in(broken["Deployment"], VERSIONS[-1]))
    assert wrong_in(broken["Job"], VERSIONS[-1]) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("found", OBJECTS, ids=named)
def test_is_valid_by_its_schema(found: Object, version: str) -> None:
    assert wrong_in(found, version) == []
    assert not set(found) - {
        "apiVersion",
        "kind",
        "metadata",
        "data" if found["kind"] == "ConfigMap" else "spec",
    }


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
    found = container(pods()[name])
    assert found["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(found["resources"]) == {"requests", "limits"}
    assert found["image"] == "ghcr.io/postorder/postorder:" + KUSTOMIZATION["images"][0]["newTag"]


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
    found = container(pod)
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    assert ports["ops"] == settings.ops.metrics_port
    assert settings.ops.metrics_host == "0.0.0.0"
    paths = {kind: found[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in paths.values()} == {"ops"}
    assert [paths[kind]["path"] for kind in ("startup", "liveness", "readiness")] == [
        "/livez",
        "/livez",
        "/readyz",
    ]
    pause = found.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["spec"]["terminationGracePeriodSeconds"] >= pause + grace_needed_s(
        settings.ops.drain_timeout_s
    )
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    zones = [spread["topologyKey"] for spread in pod["spec"]["topologySpreadConstraints"]]
    assert zones == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for spread in pod["spec"]["topologySpreadConstraints"]:
        assert spread["matchLabelKeys"] == ["app.kubernetes.io/name"]
        assert spread["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_every_role_has_a_deployment_and_the_one_job_does_what_comes_before() -> None:
    found = {name: container(one["spec"]["template"])["args"] for name, one in of_kind("Deployment").items()}
    assert {tuple(args[:2]) for args in found.values()} == {("run", "--only")}
    assert sorted(args[2] for args in found.values()) == sorted(Role)
    (job,) = of_kind("Job").values()
    assert container(job["spec"]["template"])["args"] == [
        "postorder migrate && exec postorder topology apply"
    ]


@pytest.mark.parametrize("name", pods())
def test_what_is_mounted_is_there(name: str) -> None:
    pod = pods()[name]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container(pod)["volumeMounts"]} == set(volumes)
    assert volumes["settings"]["configMap"]["name"] in of_kind("ConfigMap")
    made = {"broker-default-user", "postorder-secrets"}  # by the operator, and by hand
    made |= {f"{shard}-app" for shard in of_kind("Cluster")}
    made |= {certificate["spec"]["secretName"] for certificate in of_kind("Certificate").values()}
    assert {v["secret"]["secretName"] for v in volumes.values() if "secret" in v} <= made


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of the pods of orders."""
    return settings_of_pod("orders", tmp_path_factory.mktemp("kubernetes"))


# --- settings -------------------------------------------------------------------------------------


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
