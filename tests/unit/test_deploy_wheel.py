"""The wheel: everything that is needed at run time is in it, and found there."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
from deployment import ROOT, run_program

PACKAGES = ("pipeline", "consumers", "stack", "loadtest")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and unpacked as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run_program(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in found}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_file_of_a_package_is_in_it(unpacked: Path, name: str) -> None:
    there = files_below(unpacked / name)
    if name == "consumers":
        there -= {f"migrations/{path.name}" for path in (ROOT / "migrations").iterdir()}
    assert there == files_below(ROOT / name)


def test_nothing_else_is_in_it(unpacked: Path) -> None:
    (about,) = (path for path in unpacked.iterdir() if path.name not in PACKAGES)
    assert about.match("postorder-*.dist-info")


def test_what_is_installed_is_found_where_it_is(unpacked: Path, tmp_path: Path) -> None:
    """Away from the checkout."""
    program = (
        "import consumers, json; from consumers.console.routes import console_files; "
        "from pipeline.storage.migration_files import MIGRATIONS; "
        "print(json.dumps([consumers.__file__, str(MIGRATIONS), sorted(console_files())]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    found = run_program(sys.executable, "-c", program, cwd=tmp_path, env=environment)
    assert found.returncode == 0, found.stderr
    place, migrations, console = json.loads(found.stdout)
    assert Path(place).is_relative_to(unpacked)
    assert Path(migrations) == unpacked / "consumers/migrations"
    assert files_below(ROOT / "migrations") == files_below(Path(migrations))
    assert "index.html" in console
