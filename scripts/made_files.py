"""Files that are made from the code: written, or with --check compared with what is there."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def write_or_check(made: Mapping[Path, str], *, there: Iterable[Path] = ()) -> int:
    """Do what the command line says; return the exit status: 1 when a file is out of date.

    `there`: files that should be among those made, so that one too many is found.
    """
    if "--check" not in sys.argv:
        for path, text in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return 0
    current = {path: path.read_text(encoding="utf-8") for path in {*made, *there} if path.exists()}
    wrong = sorted(path for path in current.keys() | made.keys() if current.get(path) != made.get(path))
    for path in wrong:
        named = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path
        print(f"{named} is out of date: run `make docs`")
    return int(bool(wrong))
