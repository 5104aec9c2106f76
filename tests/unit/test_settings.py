"""Settings: what is wrong is said at once, by key, and no secret is shown."""

from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest

from pipeline.errors import SettingsError
from pipeline.settings import SECRETS, SECTIONS, ShardSettings, load_settings

SHARD = '[[shards]]\nname = "s0"\nprimary = "postgresql://u@h:1/d"\n'


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "postorder.toml"
        path.write_text(text)
        return path

    return write


def problems(path: Path | None, **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environment)
    return caught.value.problems


def test_the_smallest_file(write) -> None:
    settings = load_settings(write(SHARD), {})
    assert [shard.name for shard in settings.shards] == ["s0"]
    assert settings.notifications.grace_window_s == 5.0


def test_the_environment_wins(write, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    path = write(SHARD + '[amqp]\nprefetch = 5\n[sms]\nauth_token_file = "token"\n')
    settings = load_settings(
        path,
        {
            "POSTORDER_AMQP_PREFETCH": "7",
            "POSTORDER_INTAKE_DOCUMENT_HOSTS": "a.example,b.example:8443",
            "POSTORDER_DOCUMENTS_ALLOW_HTTP": "true",
            "POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": "0.5",
            "POSTORDER_SHARD_S0_PASSWORD": "from-environment",
            "HOME": "/",
        },
    )
    assert settings.amqp.prefetch == 7
    assert settings.intake.document_hosts == ("a.example", "b.example:8443")
    assert settings.documents.allow_http is True
    assert settings.notifications.grace_window_s == 0.5
    assert settings.sms.auth_token == "from-file"
    assert settings.shards[0].password == "from-environment"


def test_a_variable_may_name_a_secrets_file(write, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "other").write_text("from-the-other\n")
    path = write(SHARD + '[sms]\nauth_token_file = "token"\n')
    environment = {
        "POSTORDER_SMS_AUTH_TOKEN_FILE": "other",
        "POSTORDER_SHARD_S0_PASSWORD_FILE": str(tmp_path / "token"),
    }
    settings = load_settings(path, environment)
    assert (settings.sms.auth_token, settings.shards[0].password) == ("from-the-other", "from-file")
    environment["POSTORDER_SMS_AUTH_TOKEN"] = "itself"
    assert load_settings(path, environment).sms.auth_token == "itself"
    assert problems(path, POSTORDER_SMS_AUTH_TOKEN_FILE="none") == [
        "sms.auth_token_file: none: cannot be read: No such file or directory"
    ]
    assert problems(path, POSTORDER_AMQP_PREFETCH_FILE="token") == [
        "POSTORDER_AMQP_PREFETCH_FILE: no such setting"
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "shards"),
        (SHARD + SHARD, "shards.s0.name"),
        ('[[shards]]\nname = "s0"\n', "shards.s0.primary"),
        (SHARD + "weight = 0", "shards.s0.weight"),
        (SHARD + "[amqp]\nprefetch = 0", "amqp.prefetch"),
        (SHARD + '[amqp]\nprefetch = "many"', "amqp.prefetch"),
        (SHARD + "[amqp]\nprefetc = 1", "amqp.prefetc"),
        (SHARD + '[amqp]\nurl = "http://x/"', "amqp.url"),
        (SHARD + '[amqp]\nurl = "amqp://u:secret@h/"', "amqp.url"),
        (SHARD + '[amqp]\npassword = "secret"', "amqp.password"),
        (SHARD + '[amqp]\npassword_file = "none"', "amqp.password_file"),
        (SHARD + '[email]\ntls = "maybe"', "email.tls"),
        (SHARD + '[email]\ntls = "none"\nhost = "relay.example"', "email.tls"),
        (SHARD + "[notifications]\nlease_s = 5", "notifications.lease_s"),
        (SHARD + "[documents]\ntimeout_s = 30", "notifications.lease_s"),
        (SHARD + '[notifications]\ntime_zone = "Mars/Olympus"', "notifications.time_zone"),
        (SHARD + '[notifications]\ndefault_locale = "../en"', "notifications.default_locale"),
        (SHARD + '[email]\ndkim_domain = "shop.example"', "email.dkim_domain"),
        (SHARD + "[storage]\ncommand_timeout_s = inf", "storage.command_timeout_s"),
        (SHARD + "[nonsense]\n", "[nonsense]"),
        (SHARD + "amqp = 1", "amqp"),
        ("not toml", "not valid TOML"),
        ('[[shards]]\nname = "s0"\nprimary = "postgresql://u:secret@h/d"\n', "shards.s0.primary"),
        ('[[shards]]\nname = "s0"\nprimary = "postgresql://u:secret@h:1,i:2/d"\n', "shards.s0.primary"),
        ('[[shards]]\nname = "s0"\nprimary = "postgresql://u@h:1,i:many/d"\n', "'i:many'"),
        ('[[shards]]\nname = "s0"\nprimary = "postgresql://u@h:1,/d"\n', "shards.s0.primary"),
        (SHARD.replace("/d", "/d?target_session_attrs=best"), "target_session_attrs 'best'"),
    ],
)
def test_a_problem_names_its_key_and_shows_no_secret(write, text: str, key: str) -> None:
    found = problems(write(text))
    assert any(key in problem for problem in found), found
    assert not any("secret@" in problem or '"secret"' in problem for problem in found)


def test_a_signing_key_is_not_for_everybody(write, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("a key")
    key.chmod(0o644)
    path = write(SHARD + '[email]\ndkim_domain = "d"\ndkim_selector = "s"\ndkim_key_file = "key.pem"\n')
    assert problems(path)[0].startswith("email.dkim_key_file: key.pem: everybody can read it")
    for mode in (0o600, 0o440):
        key.chmod(mode)
        assert load_settings(path, {}).email.dkim_key == "a key"


def test_a_shard_may_name_several_hosts(write) -> None:
    dsn = "postgresql://u@h:1,i:2/d?target_session_attrs=read-write"
    assert load_settings(write(f'[[shards]]\nname = "s0"\nprimary = "{dsn}"\n'), {}).shards[0].primary == dsn


def test_all_problems_come_at_once(write) -> None:
    found = problems(write("[amqp]\nprefetch = 0\n[intake]\nx = 1\n"), POSTORDER_SMS_TYPO="1")
    assert len(found) == 4


def test_every_key_is_described_and_every_number_has_a_limit() -> None:
    for section in (*SECTIONS.values(), ShardSettings):
        for field in msgspec.structs.fields(section):
            hint = get_type_hints(section, include_extras=True)[field.name]
            schema = msgspec.json.schema(hint)
            assert schema.get("description"), f"{section.__name__}.{field.name}"
            if schema.get("type") in ("number", "integer"):
                assert "maximum" in schema, f"{section.__name__}.{field.name}"


def test_secrets_have_no_default() -> None:
    for section in (*SECTIONS.values(), ShardSettings):
        defaults = {field.name: field.default for field in msgspec.structs.fields(section)}
        assert all(defaults[name] == "" for name in SECRETS & set(defaults))
