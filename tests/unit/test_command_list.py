"""Commands are listed without being imported, and the list says of each what the command itself says."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.cli import COMMANDS, app, main
from consumers.lazy_group import ListedCommand

WIDE = 500  # characters; no line of help is cut


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    listed = ListedCommand(name, COMMANDS[name])
    command = listed.loaded()
    assert command.name == name
    assert command.get_short_help_str(WIDE) == listed.get_short_help_str(WIDE)
    assert not command.hidden


def test_to_list_them_none_is_imported() -> None:
    look = (
        "import sys; from consumers.cli import app; from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print(*[m for m in sys.modules if m.partition('.')[0] in ('consumers', 'loadtest', 'structlog')])"
    )
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == {"consumers", "consumers.cli", "consumers.lazy_group"}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("postorder qu", ["quarantine"]),
        ("postorder quarantine red", ["redrive"]),
        ("postorder shards plan ad", ["add"]),
        ("postorder run --wo", ["--workers"]),
    ],
)
def test_the_shell_completes_what_is_not_imported_yet(line: str, offered: list[str]) -> None:
    shell = {
        "_POSTORDER_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    assert CliRunner().invoke(app, [], prog_name="postorder", env=shell).stdout.split() == offered


def test_a_name_that_is_none_is_told_the_nearest() -> None:
    result = CliRunner().invoke(app, ["statsu"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'statsu'. Did you mean 'status'?" in result.stderr


def test_a_folder_that_cannot_be_made_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        sys, "argv", ["postorder", "templates", "preview", "--out", str(tmp_path / "file/previews")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"postorder: {tmp_path / 'file/previews'}: Not a directory\n"


def test_help_of_a_command_names_the_program() -> None:
    result = CliRunner().invoke(app, ["topology", "apply", "--help"], prog_name="postorder")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: postorder topology apply [OPTIONS]\n")


def test_a_process_that_does_not_send_loads_nothing_to_send_with() -> None:
    look = (
        "import sys, consumers.bootstrap\n"
        "print(*{'aiohttp', 'aiosmtplib', 'babel', 'httptools', 'jinja2', 'phonenumbers', 'litestar'}"
        ".intersection(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
