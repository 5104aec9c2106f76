"""The units for plain Debian hosts, looked at by systemd's own tools where they are installed."""

import configparser
import re
import shutil
from pathlib import Path

import pytest
from deployment import DEPLOY, environment_file, grace_needed_s, run_program, seconds

from consumers.allocator.run import wanted_workers
from consumers.roles import Role
from pipeline.settings import OpsSettings, Settings, load_settings

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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system with the units, and with the program where they look for it."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for path in (*FOLDER.glob("*.service"), *FOLDER.glob("*.target")):
        shutil.copy(path, units)
    for path in FOLDER.glob("*.service.d"):
        shutil.copytree(path, units / path.name)
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
    there = [path.name for path in (root / "etc/systemd/system").iterdir()]
    units = [name for name in there if "@." not in name and not name.endswith(".d")]
    found = run_program("systemd-analyze", f"--root={root}", "verify", *units)
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
def test_systemd_would_notice_a_limit_misspelt(root: Path) -> None:
    path = root / "etc/systemd/system/postorder@intake-1.service.d/workers.conf"
    path.write_text(path.read_text().replace("TasksMax", "TaskMax"))
    assert "TaskMax" in verified(root)


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_a_process_that_was_taken_over_can_do_little(name: str) -> None:
    """`systemd-analyze security` sums up what a service can do, 0 to 10; most of Debian's are above 9."""
    words = ["security", "--offline=true", "--threshold=15", "--no-pager", FOLDER / name]
    found = run_program("systemd-analyze", *words)
    assert found.returncode == 0, found.stdout[-400:]


@pytest.mark.parametrize("name", UNITS)
def test_units_run_as_their_user_and_find_the_settings(name: str) -> None:
    service = unit(name)["Service"]
    assert service["User"] == "postorder"
    assert re.search(r"^u postorder ", (FOLDER / "postorder.sysusers").read_text(), re.MULTILINE)
    assert "POSTORDER_CONFIG=/etc/postorder/postorder.toml" in service["Environment"]


def test_processes_drain_before_they_are_killed() -> None:
    service = unit("postorder@.service")["Service"]
    assert seconds(service["TimeoutStopSec"]) >= grace_needed_s(OpsSettings().drain_timeout_s)
    assert service["KillSignal"] == "SIGTERM"


def test_each_process_has_roles_that_exist_and_a_port_of_its_own() -> None:
    found = {path.stem: environment_file(path) for path in ENVIRONMENTS}
    roles = {name: set(variables["ROLES"].split(",")) for name, variables in found.items()}
    assert set().union(*roles.values()) == set(Role)
    assert roles["intake-1"] == roles["orders-1"] | roles["invoices-1"] | roles["customers-1"]
    ports = sorted(int(variables["POSTORDER_OPS_METRICS_PORT"]) for variables in found.values())
    assert ports == [*range(9464, 9470), 9480]  # of the last one's workers: those that follow
    for path in ENVIRONMENTS:
        assert f"postorder@{path.stem}.service" in path.read_text()


def test_one_process_unless_its_file_says_otherwise() -> None:
    # A file's variables count before those of the unit.
    assert "WORKERS=1" in unit("postorder@.service")["Service"]["Environment"].split()
    words = {path.stem: environment_file(path).get("WORKERS", "1") for path in ENVIRONMENTS}
    assert {name: wanted_workers(word) for name, word in words.items()} == dict.fromkeys(words, 1) | {
        "intake-1": None
    }
    for name, word in words.items():
        assert (FOLDER / f"postorder@{name}.service.d/workers.conf").exists() == (word != "1")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The example's settings, read by the program, with a file for each secret that they name."""
    text = (FOLDER / "postorder.toml").read_text()
    (tmp_path / "secrets").mkdir()
    for name in re.findall(r'"(secrets/\w+)"', text):
        (tmp_path / name).write_text("x" * 40)
    (tmp_path / "postorder.toml").write_text(text)
    return load_settings(tmp_path / "postorder.toml", {})


def test_the_example_of_settings_is_one_that_the_program_takes(settings: Settings) -> None:
    conf = {name: (DEPLOY / "nginx" / name).read_text() for name in ("postorder.conf", "postorder-api.conf")}
    assert f"server 127.0.0.1:{settings.public.port} " in conf["postorder.conf"]
    assert f"server 127.0.0.1:{settings.api.port} " in conf["postorder-api.conf"]
    assert (settings.public.host, settings.api.host) == ("127.0.0.1", "127.0.0.1")
    assert settings.api.behind_tls
    assert "127.0.0.1/32" in settings.api.trusted_proxies
    assert settings.public.base_url.removeprefix("https://") in conf["postorder.conf"]
    assert all(
        "sslmode=verify-full" in dsn for shard in settings.shards for dsn in (shard.primary, shard.replica)
    )


def test_wrong_settings_are_not_tried_again() -> None:
    """The unit counts on the exit status of a usage error."""
    from consumers.allocator.messages import USAGE_ERROR  # noqa: PLC0415  # the supervisor's word for it
    from consumers.cli import USAGE_ERROR as OF_COMMANDS  # noqa: PLC0415  # as above

    status = int(unit("postorder@.service")["Service"]["RestartPreventExitStatus"])
    assert status == USAGE_ERROR == OF_COMMANDS
