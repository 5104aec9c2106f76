"""docker-compose.yml, as far as can be known without a container engine."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deployment import (
    COMPOSE,
    DEPLOY,
    PROGRAMS,
    ROOT,
    compose,
    grace_needed_s,
    read_yaml,
    run_program,
    seconds,
    vendored,
    violations,
)

from consumers.cli import COMMANDS
from consumers.lazy_group import ListedCommand
from consumers.roles import Role
from pipeline.dsn import parse_dsn
from pipeline.settings import Settings, load_settings
from stack.smtp import sink
from stack.twilio import emulator

SERVICES = compose()["services"]
JOBS = ("certificates", "migrate", "topology")
STAND_INS = {"mail-sink": sink, "twilio-emulator": emulator}
WITHOUT_CLIENT = ("edge", "jaeger")  # nothing in the image can ask: it shows in what uses them


def long_lived() -> list[str]:
    return [name for name in SERVICES if name not in JOBS]


def roles_by_service() -> dict[str, str]:
    return {
        name: service["command"][2]
        for name, service in SERVICES.items()
        if service["image"].startswith("postorder:") and service.get("command", [""])[:2] == ["run", "--only"]
    }


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets, made by the script of the guide."""
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    subprocess.run(["sh", DEPLOY / "docker" / "make-secrets.sh", folder], check=True, timeout=30)
    return folder


@pytest.fixture(scope="module")
def settings() -> Settings:
    """The composition's settings, read by the program itself."""
    return load_settings(DEPLOY / "docker" / "postorder.toml", {})


def test_is_valid_by_the_compose_specification() -> None:
    assert violations(compose(), vendored("compose-spec")) == []


def test_the_schema_would_notice() -> None:
    broken = compose()
    broken["services"]["orders"]["stop_grace_perod"] = "40s"
    assert violations(broken, vendored("compose-spec"))


@pytest.mark.parametrize("profiles", ["", "traces"])
def test_is_one_that_compose_takes(profiles: str) -> None:
    """Compose merges, interpolates and checks what no schema says; it needs no engine for that."""
    found = run_program(
        PROGRAMS / "docker-compose",
        "--file",
        COMPOSE,
        "config",
        "--format=json",
        env={"COMPOSE_PROFILES": profiles},
    )
    assert (found.returncode, found.stderr) == (0, "")
    taken = json.loads(found.stdout)["services"]
    assert set(SERVICES) - set(taken) == (set() if profiles else {"jaeger"})
    assert taken["orders"]["environment"]["POSTORDER_TRACES_ENDPOINT"] == ""


def test_compose_would_notice(tmp_path: Path) -> None:
    """What passed the schema and was refused by Compose."""
    text = COMPOSE.read_text().replace("    hostname: rabbitmq", "    pids_limit: 5\n    hostname: rabbitmq")
    (tmp_path / "docker-compose.yml").write_text(text)
    for name in ("deploy", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    found = run_program(PROGRAMS / "docker-compose", "--project-directory", tmp_path, "config", "--quiet")
    assert found.returncode == 1
    assert "pids_limit" in found.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices", "userns_mode"} & set(service)
    assert 0 < service["deploy"]["resources"]["limits"]["pids"] <= 1024
    # The image of the program has a user of its own; see test_deploy_images.
    assert re.fullmatch(r"[1-9]\d*:\d+", service.get("user", "")) or service["image"].startswith("postorder:")


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_has_an_exact_version(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.search(r":v?\d+\.\d+(\.\d+)?([-a-z0-9.]*)?(@sha256:[0-9a-f]{64})?$", image), image


@pytest.mark.parametrize("name", long_lived())
def test_every_service_has_limits_and_a_health_check_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert service["restart"] == "unless-stopped"
    if name not in WITHOUT_CLIENT:
        assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", JOBS)
def test_jobs_run_once_and_somebody_waits_for_them(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"
    waiting = [other for other in SERVICES.values() if name in other.get("depends_on", {})]
    assert waiting
    for other in waiting:
        assert other["depends_on"][name]["condition"] == "service_completed_successfully"


def test_nothing_is_published_but_on_loopback() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_only_what_is_published_has_a_network_with_a_way_out() -> None:
    assert compose()["networks"]["backend"] == {"internal": True}
    for name, service in SERVICES.items():
        assert ("published" in service.get("networks", [])) == bool(service.get("ports")), name


def test_everything_that_is_named_is_there() -> None:
    document = compose()
    for name, service in SERVICES.items():
        for kind in ("configs", "secrets"):
            used = [item if isinstance(item, str) else item["source"] for item in service.get(kind, [])]
            assert set(used) <= set(document[kind]), name
        sources = [volume.partition(":")[0] for volume in service.get("volumes", [])]
        assert {source for source in sources if not source.startswith("./")} <= set(document["volumes"]), name
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        assert all((ROOT / source).is_dir() for source in sources if source.startswith("./")), name
    for config in document["configs"].values():
        assert (ROOT / config["file"]).is_file(), config


def test_grafana_looks_for_dashboards_where_they_are_mounted() -> None:
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    provisioning = ROOT / "deploy/grafana/provisioning"
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = read_yaml((provisioning / "dashboards/postorder.yml").read_text())[0]["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    (source,) = read_yaml((provisioning / "datasources/prometheus.yml").read_text())[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_no_secret_and_no_config_is_left_unused() -> None:
    document = compose()
    for kind in ("configs", "secrets", "volumes"):
        used = set()
        for service in SERVICES.values():
            for item in service.get(kind, []):
                used.add(item["source"] if isinstance(item, dict) else item.partition(":")[0])
        assert set(document[kind]) <= used, kind


def test_the_script_makes_every_secret_once(secrets: Path) -> None:
    wanted = {Path(secret["file"]).name for secret in compose()["secrets"].values()}
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    assert set(before) == wanted
    assert secrets.stat().st_mode & 0o777 == 0o700
    subprocess.run(["sh", DEPLOY / "docker" / "make-secrets.sh", secrets], check=True, timeout=30)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    assert len(set(before.values())) == len(before)
    assert f"default_pass = {before['amqp_password']}\n" in before["rabbitmq_user.conf"]


def test_the_program_takes_its_settings_and_they_name_services(settings: Settings) -> None:
    hosts = {
        address.host
        for shard in settings.shards
        for dsn in (shard.primary, shard.replica)
        for address in parse_dsn(dsn).addresses
    }
    assert hosts == {name for name in SERVICES if name.startswith("shard")}
    assert settings.amqp.url == "amqp://postorder@rabbitmq:5672/"
    aliases = {
        alias
        for service in SERVICES.values()
        if isinstance(service.get("networks"), dict)
        for alias in (service["networks"]["backend"] or {}).get("aliases", [])
    }
    certified = set(SERVICES["certificates"]["command"])
    assert {settings.email.host, "twilio.postorder.test", "hooks.postorder.test"} <= aliases & certified
    assert "ops.postorder.test" in aliases & certified
    assert settings.public.base_url == "https://hooks.postorder.test:8443"
    assert settings.ops.metrics_port == 9464


def test_the_edge_passes_on_to_where_the_listeners_are(settings: Settings) -> None:
    edge = (DEPLOY / "docker/edge.conf").read_text()
    for name, listener in {"public": settings.public, "api": settings.api}.items():
        assert f"http://{name}:{listener.port};" in edge
        assert listener.host == "0.0.0.0"
    assert settings.api.behind_tls


def test_prometheus_finds_every_role() -> None:
    (job, *_) = read_yaml((DEPLOY / "prometheus/prometheus.yml").read_text())[0]["scrape_configs"]
    (names,) = job["dns_sd_configs"]
    assert sorted(names["names"]) == sorted(roles_by_service())
    assert names["port"] == 9464


def test_every_role_runs_and_drains_before_it_is_killed(settings: Settings) -> None:
    assert sorted(roles_by_service().values()) == sorted(Role)
    for name in roles_by_service():
        assert SERVICES[name]["stop_signal"] == "SIGTERM"
        assert seconds(SERVICES[name]["stop_grace_period"]) >= grace_needed_s(settings.ops.drain_timeout_s), (
            name
        )


@pytest.mark.parametrize("name", ["migrate", "topology"])
def test_jobs_are_commands_of_the_program(name: str) -> None:
    first, *rest = SERVICES[name]["command"]
    command: Any = ListedCommand(first, COMMANDS[first]).loaded()
    for word in rest:
        command = command.commands[word]
    assert command.callback


@pytest.mark.parametrize("name", STAND_INS)
def test_stand_ins_understand_their_arguments(name: str) -> None:
    service = SERVICES[name]
    words = [str(word) for word in service["entrypoint"] if name == "mail-sink"][3:] + service["command"]
    options = STAND_INS[name].read_arguments(words)
    assert options.host == "0.0.0.0"
    assert f"python -m {STAND_INS[name].__name__}" in " ".join(service["entrypoint"])
    port = getattr(options, "api_port", options.port)
    assert f"127.0.0.1:{port}/_control/health" in service["healthcheck"]["test"][-1]


def test_replicas_are_who_their_primary_waits_for() -> None:
    for shard in ("shard0", "shard1"):
        primary, replica = SERVICES[f"{shard}-primary"], SERVICES[f"{shard}-replica"]
        assert primary["environment"]["REPLICA_NAME"] == replica["environment"]["REPLICA_NAME"]
        assert replica["environment"]["PRIMARY_HOST"] == f"{shard}-primary"


def test_every_route_of_the_public_listener_is_passed_on() -> None:
    """By the composition's edge, by nginx on a host, and by the gateway."""
    sources = (ROOT / "consumers" / "public").glob("*_routes.py")
    routes = {name for path in sources for name in re.findall(r'@(?:get|post)\("/(\w+)', path.read_text())}
    assert {"twilio", "unsubscribe", "mail"} <= routes
    routed = re.findall(r"type: PathPrefix, value: /(\w+)", (DEPLOY / "kubernetes/public.yaml").read_text())
    assert routes <= set(routed)
    for path in (DEPLOY / "docker" / "edge.conf", DEPLOY / "nginx" / "postorder.conf"):
        located = re.findall(r"location ~ \^/\(([\w|]+)\)/", path.read_text())
        assert routes <= {name for names in located for name in names.split("|")}, path
