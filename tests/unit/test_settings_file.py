"""The settings file as commands write and change it."""

from pathlib import Path

import pytest

from consumers.settings_file import make_replica_primary
from consumers.stack_settings import _without_password
from pipeline.errors import SettingsError
from pipeline.settings import load_settings

FILE = """
# ours
[[shards]]
name = "s0"
primary = "postgresql://u@h:1/d"
replica = "postgresql://u@h:2/d"   # the other
[[shards]]
name = "s1"
primary = "postgresql://u@h:3/d"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "postorder.toml"
    path.write_text(FILE)
    path.chmod(0o640)
    return path


def test_the_replica_becomes_the_primary_and_nothing_else_changes(path: Path) -> None:
    make_replica_primary(path, "s0")
    first, second = load_settings(path, {}).shards
    assert (first.primary, first.replica) == ("postgresql://u@h:2/d", "")
    assert second.primary == "postgresql://u@h:3/d"
    assert "# ours" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("shard", ["s1", "s2"])
def test_a_shard_without_a_replica_is_refused(path: Path, shard: str) -> None:
    with pytest.raises(SettingsError, match=f"shards.{shard}: has no replica"):
        make_replica_primary(path, shard)
    assert path.read_text() == FILE


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://u:p@h:1/", ("amqp://u@h:1/", "p")),
        ("postgresql://u:p@h:1,i:2/d?x=y", ("postgresql://u@h:1,i:2/d?x=y", "p")),
    ],
)
def test_a_password_is_taken_out(url: str, expected: tuple[str, str]) -> None:
    assert _without_password(url) == expected


def test_what_is_required_may_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "postorder.toml"
    path.write_text('[[shards]]\nname = "s0"\n')
    settings = load_settings(path, {"POSTORDER_SHARD_S0_PRIMARY": "postgresql://u@h:1/d"})
    assert settings.shards[0].primary == "postgresql://u@h:1/d"
    with pytest.raises(SettingsError, match=r"\Ashards.s0.primary: is missing\Z"):
        load_settings(path, {})
