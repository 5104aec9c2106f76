"""Settings of the API that contradict each other, and tokens made by command."""

from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from consumers.api.callers import Access
from consumers.api.tokens import TokenReader
from consumers.bootstrap import Process
from consumers.cli import app
from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.settings import load_settings

SHARDS = '[[shards]]\nname = "shard0"\nprimary = "postgresql://u@127.0.0.1:1/d"\n'
SECRET = "s" * 32


def written(tmp_path: Path, api: str) -> Path:
    path = tmp_path / "postorder.toml"
    path.write_text(f"[api]\n{api}\n{SHARDS}", encoding="utf-8")
    return path


def problems(tmp_path: Path, api: str, **secrets: str) -> list[str]:
    environment = {f"POSTORDER_API_{name.upper()}": value for name, value in secrets.items()}
    try:
        load_settings(written(tmp_path, api), environment)
    except SettingsError as error:
        return error.problems
    return []


def test_the_secret_is_not_in_the_file(tmp_path: Path) -> None:
    assert problems(tmp_path, "port = 8090", secret=SECRET) == []
    assert problems(tmp_path, f'secret = "{SECRET}"')[0].startswith("api.secret: a secret")


@pytest.mark.parametrize("name", ["secret", "secret_previous"])
def test_a_short_secret_is_refused_at_start_and_not_shown(tmp_path: Path, name: str) -> None:
    given = {"secret": SECRET, name: "abc123"}
    assert problems(tmp_path, "port = 8090", **given) == [f"api.{name}: must have 32 characters or more"]


def test_tokens_do_not_go_over_a_network_in_the_clear(tmp_path: Path) -> None:
    assert "behind_tls" in problems(tmp_path, 'host = "0.0.0.0"', secret=SECRET)[0]
    assert problems(tmp_path, 'host = "0.0.0.0"\nbehind_tls = true', secret=SECRET) == []
    assert problems(tmp_path, 'host = "::1"', secret=SECRET) == []


def test_proxies_are_networks(tmp_path: Path) -> None:
    assert problems(tmp_path, 'trusted_proxies = ["10.0.0.0/8", "::1/128", "127.0.0.1"]') == []
    assert len(problems(tmp_path, 'trusted_proxies = ["proxy", "10.0.0.1/8", "::/129"]')) == 3


@pytest.mark.parametrize("api", [
    "token_lifetime_s = 3601", "token_lifetime_s = 59", "leeway_s = 61", "leeway_s = -1", "streams_max = 0",
    "requests_per_s = 0",
])  # fmt: skip
def test_limits_have_limits(tmp_path: Path, api: str) -> None:
    assert len(problems(tmp_path, api)) == 1


def test_a_process_of_the_api_alone_needs_a_port(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, ""), {})
    with pytest.raises(SettingsError, match=r"api\.port"):
        Process(settings, frozenset({Role.API}), lambda _name: None)


def token(path: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["api", "token", *arguments, "--config", str(path)])
    structlog.reset_defaults()  # the command has set logging up, to a file that is closed by now
    if isinstance(result.exception, SettingsError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_the_command_makes_a_token_that_the_api_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTORDER_API_SECRET", SECRET)
    path = written(tmp_path, "port = 8090")
    reader = TokenReader(load_settings(path).api)
    caller = reader.read(token(path, "--subject", "ada", "--role", "operate", "--ttl", "1h"))
    assert (caller.subject, caller.access) == ("ada", Access.OPERATE)
    assert reader.read(token(path, "--subject", "cron/report")).access is Access.READ
    for ttl in ("2h", "0s", "15", "1d", "-1m", "1.5h"):
        with pytest.raises(SettingsError, match="--ttl"):
            token(path, "--subject", "ada", "--ttl", ttl)
    with pytest.raises(SettingsError, match="--subject"):
        token(path, "--subject", "Ada Example")


def test_no_token_without_a_secret(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="POSTORDER_API_SECRET"):
        token(written(tmp_path, ""), "--subject", "ada")
