"""Settings of the public listener that contradict each other, and links made of those that do not."""

from pathlib import Path
from uuid import UUID

import pytest
from claims import claim

from consumers.bootstrap import Process
from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.notifications.callbacks.links import Links
from pipeline.notifications.callbacks.seals import Seals
from pipeline.settings import PublicSettings, load_settings

SHARDS = '[[shards]]\nname = "shard0"\nprimary = "postgresql://u@127.0.0.1:1/d"\n'
SECRET = "s" * 32
EFFECT = UUID("9e107d9d-372b-4b6e-8b5e-3f0d0c1a2b3c")


def problems(tmp_path: Path, public: str, **environment: str) -> list[str]:
    path = tmp_path / "postorder.toml"
    path.write_text(f"[public]\n{public}\n{SHARDS}", encoding="utf-8")
    try:
        load_settings(
            path, {f"POSTORDER_PUBLIC_{name.upper()}": value for name, value in environment.items()}
        )
    except SettingsError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    "base_url",
    ["https://hooks.shop.example", "https://a.example:8443/in", "http://127.0.0.1:27081", "http://[::1]:1"],
)
def test_what_a_base_url_may_be(tmp_path: Path, base_url: str) -> None:
    assert problems(tmp_path, f'base_url = "{base_url}"\nport = 8080', secret=SECRET) == []


@pytest.mark.parametrize(
    ("base_url", "word"),
    [
        ("http://hooks.shop.example", "loopback"),
        ("hooks.shop.example", "https://host/path"),
        ("ftp://hooks.shop.example", "https://host/path"),
        ("https://", "https://host/path"),
        ("https://a.example/?x=1", "https://host/path"),
        ("https://a.example/#x", "https://host/path"),
        ("https://user@a.example", "https://host/path"),
        ("https://a.example:99999", "https://host/path"),
        ("https://bücher.example", "https://host/path"),
    ],
)
def test_what_no_base_url_is(tmp_path: Path, base_url: str, word: str) -> None:
    [problem] = problems(tmp_path, f'base_url = "{base_url}"', secret=SECRET)
    assert problem.startswith("public.base_url")
    assert word in problem


def test_secrets_are_long(tmp_path: Path) -> None:
    base_url = 'base_url = "https://a.example"'
    [short] = problems(tmp_path, base_url, secret="s" * 31)
    assert short == "public.secret: must have 32 characters or more"
    [other] = problems(tmp_path, base_url, secret=SECRET, bounce_secret="short")
    assert other.startswith("public.bounce_secret")
    assert "short" not in other.partition(":")[2]


def test_a_listener_needs_to_know_how_it_is_reached(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, "port = 8080", secret=SECRET)
    assert problem.startswith("public.base_url: is missing")


def test_a_secret_in_the_file_is_refused(tmp_path: Path) -> None:
    assert any("a secret" in problem for problem in problems(tmp_path, f'secret = "{SECRET}"'))


def test_listening_alone_needs_a_port(tmp_path: Path) -> None:
    path = tmp_path / "postorder.toml"
    path.write_text(SHARDS, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"public\.port"):
        Process(load_settings(path, {}), frozenset({Role.PUBLIC}), lambda _name: None)


def test_links_are_given_out_only_where_somebody_listens() -> None:
    none = Links(PublicSettings())
    assert none.unsubscribe("ada@example.com") is None
    links = Links(PublicSettings(base_url="https://a.example/in/", secret=SECRET))
    link = links.unsubscribe("Ada@Example.com")
    assert link == links.unsubscribe("ada@example.com")
    assert link is not None
    assert link.startswith("https://a.example/in/unsubscribe/")
    assert "ada" not in link.lower()


def test_a_callback_names_its_message_and_how_it_is_repeated() -> None:
    sent = claim(slot=77, effect_id=EFFECT, attempt=2)
    assert Links(PublicSettings()).status_callback(sent) is None
    plain = PublicSettings(base_url="https://a.example", secret=SECRET, twilio_overrides="")
    link = Links(plain).status_callback(sent)
    assert link is not None
    assert Seals([SECRET]).open(link.rpartition("/")[2]) == (77, EFFECT, 2)
    repeated = PublicSettings(base_url="https://a.example", secret=SECRET)
    assert Links(repeated).status_callback(sent) == f"{link}#rc=5&rp=5xx,ct,rt"
