"""deploy/kubernetes as kustomize makes it, and the schemas of what it makes, each read once."""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from deployed_secrets import started_with
from deployment import DEPLOY, PROGRAMS, ROOT, read_yaml, run_program, violations
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator
from referencing import Registry, Resource

from consumers.roles import Role
from pipeline.settings import Settings

FOLDER = DEPLOY / "kubernetes"
VERSIONS = ("1.34", "1.37")  # the oldest and the newest that it is meant for

Object = dict[str, Any]


def rendered(folder: Path = FOLDER) -> str:
    """What `kubectl apply -k` would apply."""
    found = run_program(PROGRAMS / "kubectl", "kustomize", folder)
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    return found.stdout


OBJECTS: list[Object] = read_yaml(rendered())
(KUSTOMIZATION,) = read_yaml((FOLDER / "kustomization.yaml").read_text())


def named(found: Object) -> str:
    return f"{found['apiVersion']} {found['kind']} {found['metadata']['name']}"


def of_kind(kind: str) -> dict[str, Object]:
    return {found["metadata"]["name"]: found for found in OBJECTS if found["kind"] == kind}


def pods() -> dict[str, Object]:
    """The pod templates of the pipeline."""
    return {
        named(found): found["spec"]["template"] for found in OBJECTS if found["kind"] in ("Deployment", "Job")
    }


def container(pod: Object) -> Object:
    """The one container of a pod of the pipeline."""
    assert "initContainers" not in pod["spec"]
    (found,) = pod["spec"]["containers"]
    return found


def settings_text() -> str:
    """The settings of the pods, out of the ConfigMap that kustomize makes."""
    (found,) = (one for one in of_kind("ConfigMap").values() if "postorder.toml" in one["data"])
    return found["data"]["postorder.toml"]


def settings_of_pod(name: str, folder: Path) -> Settings:
    """The settings of a Deployment's pods, read by the program from a file for each secret."""
    found = container(of_kind("Deployment")[name]["spec"]["template"])
    variables = {one["name"]: one.get("value", "") for one in found.get("env", [])}
    variables = {key: text.replace("$(BROKER_USER)", "default_user_1") for key, text in variables.items()}
    return started_with(folder, settings_text(), variables, frozenset({Role(found["args"][2])}))


# --- schemas --------------------------------------------------------------------------------------


@cache
def _custom() -> dict[str, Validator]:
    (document,) = read_yaml((ROOT / "tests/data/kubernetes/custom-resources.yaml").read_text())
    return {kind: Draft202012Validator(schema) for kind, schema in document.items() if kind != "$defs"}


@cache
def _schema(version: str, name: str) -> Any:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    return json.loads((folder / f"{name}.json").read_text())


@cache
def _definitions(version: str) -> Registry[Any]:
    return Resource.from_contents(_schema(version, "_definitions")) @ Registry()


@cache
def _published(version: str, kind: str, api_version: str) -> Validator:
    group, _, number = api_version.rpartition("/")
    api = f"{group.partition('.')[0]}-{number}" if group else number
    schema = _schema(version, f"{kind.lower()}-{api}")
    return Draft202012Validator(schema, registry=_definitions(version))


def wrong_in(found: Object, version: str) -> list[str]:
    """What is wrong with an object by its schema: Kubernetes' own, or that of its custom resource."""
    kind = f"{found['apiVersion']} {found['kind']}"
    if kind in _custom():
        return violations(found["spec"], _custom()[kind])
    return violations(found, _published(version, found["kind"], found["apiVersion"]))
