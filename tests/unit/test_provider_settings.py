"""Settings of providers: a second one of each kind is there only when something is said of it."""

from pathlib import Path

import pytest

from consumers.bootstrap import Process
from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.settings import load_settings

SHARD = '[[shards]]\nname = "s0"\nprimary = "postgresql://u@h:1/d"\n'


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "postorder.toml"
        path.write_text(SHARD + text)
        return path

    return write


def test_there_is_no_second_provider_unless_it_is_set(write) -> None:
    settings = load_settings(write(""), {})
    assert (settings.sms_second, settings.email_second) == (None, None)


def test_a_second_provider_from_file_and_environment(write) -> None:
    settings = load_settings(
        write('[email_second]\nhost = "relay.example"\nweight = 0\n'),
        {"POSTORDER_SMS_SECOND_WEIGHT": "3", "POSTORDER_SMS_SECOND_AUTH_TOKEN": "a token"},
    )
    assert settings.email_second is not None
    assert (settings.email_second.host, settings.email_second.weight) == ("relay.example", 0)
    assert settings.sms_second is not None
    assert (settings.sms_second.weight, settings.sms_second.auth_token) == (3, "a token")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[sms]\nweight = 0\n", "sms.weight"),
        ('[email]\nweight = 0\n[email_second]\nhost = "relay.example"\nweight = 0\n', "email.weight"),
        ("[sms]\nconcurrency = 2\nconcurrency_min = 3\n", "sms.concurrency_min"),
        ("[effects]\nask_after_s = 300\n[sms_second]\ntimeout_s = 30\n", "notifications.lease_s"),
        ('[sms_second]\nbase_url = "ftp://x/"\n', "sms_second.base_url"),
        ('[email_second]\ntls = "none"\nhost = "relay.example"\n', "email_second.tls"),
        ('[email_second]\nhost = "relay.example"\nhots = 1\n', "email_second.hots"),
        ("[email_second]\nweight = 0\n", "email_second.host"),  # not the first relay's default
        ('[email_second]\nhost = ""\n', "email_second.host"),
        ("[pools]\nbreaker_failure_ratio = 0\n", "pools.breaker_failure_ratio"),
    ],
)
def test_what_cannot_be(write, text: str, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(text), {})
    assert [problem.split(":")[0] for problem in caught.value.problems] == [key]


def test_a_second_relay_may_be_named_by_the_environment(write) -> None:
    settings = load_settings(write("[email_second]\nweight = 0\n"), {"POSTORDER_EMAIL_SECOND_HOST": "relay"})
    assert settings.email_second is not None
    assert settings.email_second.host == "relay"


def test_a_variable_alone_makes_no_second_relay_of_nowhere(write) -> None:
    with pytest.raises(SettingsError, match=r"\Aemail_second.host: is missing\Z"):
        load_settings(write(""), {"POSTORDER_EMAIL_SECOND_WEIGHT": "1"})


def test_a_second_sms_provider_needs_an_account_of_its_own_to_send(write) -> None:
    variables = {"POSTORDER_SMS_AUTH_TOKEN": "a token"}
    account = f'[sms]\naccount_sid = "AC{"0a" * 16}"\nfrom_number = "+14155550100"\n'
    settings = load_settings(write(f"{account}[sms_second]\nweight = 1\n"), variables)
    with pytest.raises(SettingsError) as caught:
        Process(settings, frozenset({Role.NOTIFICATIONS}), lambda _name: None)
    assert caught.value.problems == [
        f"sms_second.{key}: is missing, and notifications need it"
        for key in ("account_sid", "auth_token", "from_number")
    ]
    Process(load_settings(write(account), variables), frozenset({Role.NOTIFICATIONS}), lambda _name: None)
