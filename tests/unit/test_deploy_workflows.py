"""Workflows: their schema, what is unsafe in them, the shell in them, and that they name what exists."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from deployment import DEPLOY, PROGRAMS, ROOT, compose, read_yaml, run_program, vendored, violations

FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def workflow(path: Path) -> dict[str, Any]:
    # PyYAML takes the key `on` for a truth value, as YAML 1.1 says.
    return {"on" if key is True else key: value for key, value in read_yaml(path.read_text())[0].items()}


def scripts() -> dict[str, str]:
    """Every piece of shell, with a word in place of each expression of GitHub's."""
    found = {}
    for path in FILES:
        for job, description in workflow(path)["jobs"].items():
            for number, step in enumerate(description["steps"]):
                if "run" in step:
                    found[f"{path.stem}/{job}/{number}"] = re.sub(r"\$\{\{.*?\}\}", "expression", step["run"])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_is_valid_by_its_schema(path: Path) -> None:
    assert violations(workflow(path), vendored("github-workflows")) == []


def test_dependabot_is_valid_by_its_schema() -> None:
    (document,) = read_yaml((ROOT / ".github" / "dependabot.yml").read_text())
    assert violations(document, vendored("dependabot")) == []


def test_the_schema_would_notice() -> None:
    broken = workflow(FILES[0])
    broken["jobs"]["test"]["timeout_minutes"] = 5
    assert violations(broken, vendored("github-workflows"))


def test_nothing_unsafe_is_found() -> None:
    words = ["--offline", "--no-progress", "--quiet", "--persona=pedantic"]
    found = run_program(PROGRAMS / "zizmor", *words, ROOT / ".github")
    assert found.returncode == 0, found.stdout


def test_the_shell_passes_shellcheck(tmp_path: Path) -> None:
    for name, text in scripts().items():
        (tmp_path / name.replace("/", "-")).write_text(text)
    found = run_program(PROGRAMS / "shellcheck", "--shell=bash", *tmp_path.iterdir())
    assert (found.returncode, found.stdout) == (0, "")
    assert len(list(tmp_path.iterdir())) > 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_jobs_end_and_may_do_no_more_than_they_say(path: Path) -> None:
    found = workflow(path)
    assert found["permissions"] == {}
    for name, job in found["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 180, name
        assert job["permissions"], name
        for step in job["steps"]:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", "a@" + "0" * 40)), step
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name


def test_targets_and_files_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(scripts().values())
    assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for name in re.findall(r"\b((?:deploy|examples|\.ci)/[\w./-]+)", text):
        assert (ROOT / name).exists(), name


def test_a_release_has_bills_of_materials_and_no_known_hole() -> None:
    release = "\n".join(text for name, text in scripts().items() if name.startswith("release/release/"))
    for word in (
        "pip-audit --strict",
        "cyclonedx-py",
        "postorder.cdx.json",
        "--sbom=true",
        "--provenance=mode=max",
    ):
        assert word in release, word
    assert "pip-audit --strict" in scripts()["ci/audit/1"]


def test_every_version_is_that_of_the_package() -> None:
    (kustomization,) = read_yaml((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    assert [image["newTag"] for image in kustomization["images"]] == [VERSION]
    (job,) = read_yaml((DEPLOY / "kubernetes" / "jobs.yaml").read_text())
    assert job["metadata"]["name"] == f"migrate-{VERSION.replace('.', '-')}"
    images = {service["image"] for service in compose()["services"].values()}
    assert {image for image in images if image.startswith("postorder:")} == {f"postorder:{VERSION}"}
    assert f"ARG VERSION={VERSION}\n" in (DEPLOY / "docker" / "Dockerfile").read_text()
    assert f"postorder:{VERSION}" in scripts()["ci/image/1"]
