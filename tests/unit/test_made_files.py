"""Files that are made from the code: written, or told to be out of date."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
import made_files


@pytest.fixture
def write_or_check(monkeypatch: pytest.MonkeyPatch):
    def run(made: dict[Path, str], *args: str, there: tuple[Path, ...] = ()) -> int:
        monkeypatch.setattr(sys, "argv", ["render.py", *args])
        return made_files.write_or_check(made, there=there)

    return run


def test_what_is_missing_changed_or_too_many_is_told(tmp_path: Path, write_or_check, capsys) -> None:
    made = {tmp_path / "new/schema.json": "{}\n"}
    assert write_or_check(made, "--check") == 1
    assert "schema.json is out of date: run `make docs`" in capsys.readouterr().out
    assert write_or_check(made) == 0
    assert write_or_check(made, "--check") == 0
    assert not capsys.readouterr().out
    (tmp_path / "new/schema.json").write_text("[]\n", encoding="utf-8")
    assert write_or_check(made, "--check") == 1
    (tmp_path / "new/schema.json").write_text("{}\n", encoding="utf-8")
    extra = tmp_path / "new/old.json"
    extra.write_text("", encoding="utf-8")
    capsys.readouterr()
    assert write_or_check(made, "--check", there=(extra,)) == 1
    assert "old.json is out of date" in capsys.readouterr().out
