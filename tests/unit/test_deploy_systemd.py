"""The units for plain Debian hosts, looked at by systemd's own tools where they are installed."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from deployment import DEPLOY

from consumers.roles import Role
from pipeline.settings import OpsSettings

FOLDER = DEPLOY / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
ENVIRONMENTS = sorted(FOLDER.glob("env/*.env"))
STANDARD = ("network-online", "time-sync", "multi-user", "sysinit", "basic", "shutdown", "network")

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / name)
    return parser


def environment(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system with the units, and with the program where they look for it."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for path in (*FOLDER.glob("*.service"), *FOLDER.glob("*.target")):
        shutil.copy(path, units)
    for path in ENVIRONMENTS:
        shutil.copy(FOLDER / "postorder@.service", units / f"postorder@{path.stem}.service")
    program = tmp_path / "opt/postorder/current/bin/postorder"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    system = tmp_path / "usr/lib/systemd/system"
    system.mkdir(parents=True)
    for name in STANDARD:
        shutil.copy(f"/lib/systemd/system/{name}.target", system)
    return tmp_path


def verified(root: Path) -> str:
    """What systemd finds fault with."""
    units = [path.name for path in (root / "etc/systemd/system").iterdir() if "@." not in path.name]
    found = subprocess.run(
        ["systemd-analyze", f"--root={root}", "verify", *units],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return found.stderr if found.returncode == 0 else found.stderr or "failed"


@needs_systemd
def test_systemd_takes_the_units(root: Path) -> None:
    assert verified(root) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("before", "after"),
    [("TimeoutStopSec=40s", "TimeoutStopSeconds=40s"), ("bin/postorder run", "bin/postorders run")],
)
def test_systemd_would_notice(root: Path, before: str, after: str) -> None:
    path = root / "etc/systemd/system/postorder@orders-1.service"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    assert verified(root) != ""


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_a_process_that_was_taken_over_can_do_little(name: str) -> None:
    """`systemd-analyze security` sums up what a service can do, 0 to 10; most of Debian's are above 9."""
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", FOLDER / name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-400:]


@pytest.mark.parametrize("name", UNITS)
def test_units_run_as_their_user_and_find_the_settings(name: str) -> None:
    service = unit(name)["Service"]
    assert service["User"] == "postorder"
    assert re.search(r"^u postorder ", (FOLDER / "postorder.sysusers").read_text(), re.MULTILINE)
    assert "POSTORDER_CONFIG=/etc/postorder/postorder.toml" in service["Environment"]


def test_processes_drain_before_they_are_killed_and_do_not_run_on_wrong_settings() -> None:
    service = unit("postorder@.service")["Service"]
    assert float(service["TimeoutStopSec"].removesuffix("s")) >= OpsSettings().drain_timeout_s + 10
    assert service["RestartPreventExitStatus"] == "2"
    assert service["KillSignal"] == "SIGTERM"


def test_each_process_has_roles_that_exist_and_a_port_of_its_own() -> None:
    found = [environment(path) for path in ENVIRONMENTS]
    roles = {role for variables in found for role in variables["ROLES"].split(",")}
    assert {"order-processed", "invoice-generated", "customer-updated", "notifications", "public"} <= roles
    assert roles <= set(Role)
    ports = [variables["POSTORDER_OPS_METRICS_PORT"] for variables in found]
    assert len(set(ports)) == len(ports)
    for path in ENVIRONMENTS:
        assert f"postorder@{path.stem}.service" in path.read_text()
