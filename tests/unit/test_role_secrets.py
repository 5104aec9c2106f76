"""Each role is given its own secrets, says which are missing, and keeps no others."""

from pathlib import Path

import msgspec
import pytest

from consumers.bootstrap import Process
from consumers.role_needs import require_needs
from consumers.role_secrets import SECRETS_OF, with_secrets_of
from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.settings import SECRETS, SECTIONS, Settings, ShardSettings, load_settings

EVERY = {"shards.password"} | {
    f"{name}.{key}" for name, struct in SECTIONS.items() for key in struct.__struct_fields__ if key in SECRETS
}
TEXT = f"""
[public]
base_url = "https://hooks.shop.example"
port = 8080
[api]
port = 8090
[email]
dkim_domain = "shop.example"
dkim_selector = "s1"
username = "postorder"
[sms]
account_sid = "AC{"0" * 32}"
messaging_service_sid = "MG{"0" * 32}"
[sms_second]
account_sid = "AC{"1" * 32}"
from_number = "+15005550006"
[email_second]
host = "smtp2.shop.example"
[[shards]]
name = "shard0"
primary = "postgresql://u@127.0.0.1:1/d"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "postorder.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def given(secrets: set[str] | frozenset[str]) -> dict[str, str]:
    """The variables that give these secrets, each a text of its own."""
    names = {name: name.replace("shards.", "shard_shard0.").replace(".", "_").upper() for name in secrets}
    return {f"POSTORDER_{variable}": f"{name}-".ljust(40, "x") for name, variable in names.items()}


def held(settings: Settings) -> set[str]:
    """The secrets that settings hold."""
    sections = {**msgspec.to_builtins(settings), "shards": msgspec.to_builtins(settings.shards[0])}
    return {
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in (section or {}).items()
        if key in SECRETS and value
    }


def test_every_secret_is_some_roles_and_no_other_name_is() -> None:
    assert "password" in ShardSettings.__struct_fields__
    assert set(SECRETS_OF) == set(Role)
    assert frozenset().union(*SECRETS_OF.values()) == EVERY


@pytest.mark.parametrize("role", Role)
def test_a_process_starts_with_the_secrets_of_its_role_alone(file: Path, role: Role) -> None:
    settings = load_settings(file, given(SECRETS_OF[role]))
    require_needs(settings, frozenset({role}))
    assert held(settings) == held(with_secrets_of(settings, frozenset({role}))) == SECRETS_OF[role]


@pytest.mark.parametrize("role", Role)
def test_a_process_keeps_no_other_secret(file: Path, role: Role) -> None:
    settings = load_settings(file, given(EVERY))
    assert held(settings) == EVERY
    assert held(with_secrets_of(settings, frozenset({role}))) == SECRETS_OF[role]
    assert with_secrets_of(settings, frozenset(Role)) == settings


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        (Role.NOTIFICATIONS, "public.secret"),
        (Role.NOTIFICATIONS, "sms.auth_token"),
        (Role.NOTIFICATIONS, "sms_second.auth_token"),
        (Role.NOTIFICATIONS, "email.dkim_key"),
        (Role.NOTIFICATIONS, "email.password"),
        (Role.PUBLIC, "public.secret"),
        (Role.PUBLIC, "sms.auth_token"),
        (Role.PUBLIC, "sms_second.auth_token"),
        (Role.API, "api.secret"),
    ],
)
def test_what_a_role_lacks_is_said_before_anything_is_connected(file: Path, role: Role, missing: str) -> None:
    environment = given(SECRETS_OF[role] - {missing})
    with pytest.raises(SettingsError) as caught:
        Process(load_settings(file, environment), frozenset({role}), lambda _name: None)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{missing}: ")


def test_everything_that_is_missing_is_said_at_once(file: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        require_needs(load_settings(file, {}), frozenset(Role))
    assert len(caught.value.problems) == 6
