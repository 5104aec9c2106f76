"""Each process is given the secrets that its roles use, by the program's own table, and no others."""

import re
from pathlib import Path

import pytest
from deployed_secrets import USED, secrets_named, started_with, wanted
from deployment import DEPLOY, compose, environment_file
from kubernetes_objects import Object, container, of_kind, settings_of_pod, settings_text

from consumers.roles import Role

# --- Compose --------------------------------------------------------------------------------------

COMPOSE_SETTINGS = (DEPLOY / "docker/postorder.toml").read_text(encoding="utf-8")
SERVICES = compose()["services"]
COMPOSED = {
    name: Role(service["command"][2])
    for name, service in SERVICES.items()
    if service.get("command", [])[:2] == ["run", "--only"]
}


def given_to_service(name: str) -> dict[str, set[str]]:
    """The secrets that a service is told of. It mounts those and no others."""
    named = secrets_named(COMPOSE_SETTINGS, SERVICES[name]["environment"])
    assert {f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]} == set().union(*named.values())
    return named


@pytest.mark.parametrize("name", COMPOSED)
def test_each_service_is_given_the_secrets_of_its_role(name: str, tmp_path: Path) -> None:
    roles = frozenset({COMPOSED[name]})
    assert set(given_to_service(name)) == wanted(roles, USED)
    started_with(tmp_path, COMPOSE_SETTINGS, SERVICES[name]["environment"], roles)


def test_jobs_of_the_composition_are_given_what_they_connect_with() -> None:
    assert set(COMPOSED.values()) == set(Role)
    assert set(given_to_service("migrate")) == {"shards.password"}
    assert set(given_to_service("topology")) == {"amqp.password"}


# --- Kubernetes -----------------------------------------------------------------------------------

POD_USED = USED | {"email.password"}


def given_to_pod(pod: Object) -> dict[str, set[str]]:
    """The secrets that a pod is told of. It mounts those files and no others."""
    found = container(pod)
    variables = {one["name"]: one.get("value", "") for one in found.get("env", [])}
    named = secrets_named(settings_text(), variables)
    paths = {mount["name"]: mount["mountPath"] for mount in found["volumeMounts"]}
    mounted = {
        f"{paths[volume['name']]}/{item['path']}"
        for volume in pod["spec"]["volumes"]
        for item in volume.get("secret", {}).get("items", [])
    }
    assert mounted - {"/projected/ca.crt"} == set().union(*named.values())
    return named


@pytest.mark.parametrize("name", of_kind("Deployment"))
def test_each_pod_is_given_the_secrets_of_its_role(name: str, tmp_path: Path) -> None:
    pod = of_kind("Deployment")[name]["spec"]["template"]
    roles = frozenset({Role(container(pod)["args"][2])})
    assert set(given_to_pod(pod)) == wanted(roles, POD_USED)
    settings_of_pod(name, tmp_path)


def test_the_job_is_given_what_it_connects_with() -> None:
    (job,) = of_kind("Job").values()
    assert set(given_to_pod(job["spec"]["template"])) == {"shards.password", "amqp.password"}


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_secrets_are_files_for_the_programs_group_alone(kind: str) -> None:
    """Nothing is in the environment but the name that the operator gave the broker's user."""
    for found in of_kind(kind).values():
        pod = found["spec"]["template"]
        volumes = [volume["secret"] for volume in pod["spec"]["volumes"] if "secret" in volume]
        assert volumes
        assert pod["spec"]["securityContext"]["fsGroup"] == 10001
        for volume in volumes:
            assert volume["items"], "without them, every key of the secret is mounted"
            assert volume["items"] == [{"key": "ca.crt", "path": "ca.crt"}] or volume["defaultMode"] == 0o440
        sources = [one["valueFrom"] for one in container(pod).get("env", []) if "valueFrom" in one]
        assert sources in ([], [{"secretKeyRef": {"name": "broker-default-user", "key": "username"}}])
        assert "envFrom" not in container(pod)


# --- systemd --------------------------------------------------------------------------------------

UNITS = DEPLOY / "systemd"
UNIT_SETTINGS = (UNITS / "postorder.toml").read_text()
IN_FILES = {"shards.password", "amqp.password"}  # every command uses them, too: files for the group


def handed_over(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """The credentials of a process, by name, and the variables that say where they are."""
    path = UNITS / f"postorder@{name}.service.d/secrets.conf"
    text = path.read_text() if path.exists() else ""
    credentials = dict(re.findall(r"^LoadCredential=(\w+):(\S+)$", text, re.MULTILINE))
    variables = dict(re.findall(r"^Environment=(\w+)=(\S+)$", text, re.MULTILINE))
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    assert len(lines) == len(credentials) + len(variables)
    return credentials, variables


@pytest.mark.parametrize("path", sorted(UNITS.glob("env/*.env")), ids=lambda path: path.stem)
def test_each_unit_is_handed_the_secrets_of_its_roles(path: Path, tmp_path: Path) -> None:
    roles = frozenset(Role(role) for role in environment_file(path)["ROLES"].split(","))
    credentials, variables = handed_over(path.stem)
    named = secrets_named(UNIT_SETTINGS, variables)
    assert set(named) - IN_FILES == wanted(roles, POD_USED) - IN_FILES
    assert set(variables.values()) == {f"%d/{name}" for name in credentials}
    assert credentials == {name: f"/etc/postorder/secrets/{name}" for name in credentials}
    started_with(tmp_path, UNIT_SETTINGS, variables, roles)


def test_the_guide_says_who_owns_each_secret() -> None:
    guide = (DEPLOY.parent / "docs/how-to/deploy-on-debian.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `root:(\w+)`, (\d+) \|", guide, re.MULTILINE)
    said = {name: (group, mode) for names, group, mode in rows for name in re.findall(r"`(\w+)`", names)}
    handed = {name for path in UNITS.glob("env/*.env") for name in handed_over(path.stem)[0]}
    in_files = {Path(file).name for files in secrets_named(UNIT_SETTINGS, {}).values() for file in files}
    assert set(secrets_named(UNIT_SETTINGS, {})) == IN_FILES
    assert said == dict.fromkeys(in_files, ("postorder", "0640")) | dict.fromkeys(handed, ("root", "0600"))
