"""Each process is given the secrets that its roles use, by the program's own table, and no others."""

from pathlib import Path

import pytest
from deployed_secrets import USED, secrets_named, started_with, wanted
from deployment import DEPLOY, compose

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
