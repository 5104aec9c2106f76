"""Settings of SMS: senders, and what contradicts itself."""

from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.settings import Settings, load_settings

SHARD = '[[shards]]\nname = "a"\nprimary = "postgresql://u@127.0.0.1:5432/d"\n'
ACCOUNT = "AC" + "0a" * 16
SERVICE = "MG" + "0b" * 16


def read(folder: Path, lines: str) -> Settings:
    path = folder / "postorder.toml"
    path.write_text(f"{SHARD}[sms]\n{lines}\n", encoding="utf-8")
    return load_settings(path, {})


SENDERS = {  # 262 of the corpus
    "+15005550006": True,
    "12345": True,
    "Postorder": True,
    "Shop & Co-1": True,
    "ElevenChars": True,
    "TwelveChars1": False,
    "12": False,
    "123456789012": False,
    "+05551234567": False,
    "Café": False,
    "Shop\\nBcc": False,
    "Shop!": False,
}


@pytest.mark.parametrize(("sender", "is_good"), SENDERS.items())
def test_senders(tmp_path: Path, sender: str, *, is_good: bool) -> None:
    if is_good:
        assert read(tmp_path, f'from_number = "{sender}"').sms.from_number == sender
        return
    with pytest.raises(SettingsError, match=r"sms\.from_number"):
        read(tmp_path, f'from_number = "{sender}"')


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (f'from_number = "12345"\nmessaging_service_sid = "{SERVICE}"', "cannot be set together"),
        (f'account_sid = "{ACCOUNT}"', "is missing, and so is sms.messaging_service_sid"),
        ('account_sid = "AC1"', "sms.account_sid"),
        ('messaging_service_sid = "MG1"', "sms.messaging_service_sid"),
        ('base_url = "http://api.example"', "http is for loopback only"),
        ('base_url = "https://api.example/v2"', "nothing after them"),
        ("connect_timeout_s = 11", "must not be more than sms.timeout_s"),
        ("number_types = []", "no number could be texted"),
        ('number_types = ["satellite"]', "sms.number_types"),
        ("segments_max = 0", "sms.segments_max"),
        ("segments_max = 11", "sms.segments_max"),
        ('client = "curl"', "sms.client"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, lines: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        read(tmp_path, lines)


def test_what_is_given_arrives(tmp_path: Path) -> None:
    sms = read(
        tmp_path,
        f'account_sid = "{ACCOUNT}"\nmessaging_service_sid = "{SERVICE}"\nbase_url = "http://127.0.0.1:8010"\n'
        'number_types = ["mobile", "voip"]\nclient = "sdk"',
    ).sms
    assert (sms.messaging_service_sid, sms.number_types, sms.client) == (SERVICE, ("mobile", "voip"), "sdk")
