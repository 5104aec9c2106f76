"""Print the part of requirements.lock that an installation needs, hashes and all.

    python deploy/docker/select_lock.py [EXTRA...]          # what the program needs, and its extras
    python deploy/docker/select_lock.py --only hatchling    # one package, and what it needs

The lock names behind every package who asked for it (`# via`), so nothing has to be resolved anew. Needs
nothing but Python: the image is built before anything is installed.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Entry(NamedTuple):
    """One package of the lock: its lines as they stand there, and which packages asked for it."""

    text: str
    wanted_by: frozenset[str]


def canonical(name: str) -> str:
    """Return a package's name in its one spelling: lower case, with hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> dict[str, Entry]:
    """Return the entries of a lock by name."""
    entries = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        requirement, _, via = block.partition("# via")
        name = canonical(_NAME.match(requirement)[0])  # type: ignore[index]  # a block begins with one
        wanted_by = {canonical(found) for found in _NAME.findall(re.sub(r"\(.*?\)", "", via))}
        entries[name] = Entry(requirement.rstrip() + "\n", frozenset(wanted_by))
    return entries


def roots_of(project: Mapping[str, object], extras: Iterable[str]) -> set[str]:
    """Return what the program itself asks for. Raises KeyError for an extra that it does not have."""
    table: Mapping[str, object] = project["project"]  # type: ignore[assignment]
    optional: Mapping[str, list[str]] = table["optional-dependencies"]  # type: ignore[assignment]
    wanted = [*table["dependencies"]]  # type: ignore[misc]
    for extra in extras:
        wanted += optional[extra]
    return {canonical(_NAME.match(requirement)[0]) for requirement in wanted}  # type: ignore[index]


def select(entries: Mapping[str, Entry], roots: Iterable[str]) -> list[str]:
    """Return the names of the roots and of all that they need, sorted. Raises KeyError for an unknown one."""
    selected: set[str] = set()
    waiting = set(roots)
    while waiting:
        name = waiting.pop()
        entries[name]  # raises KeyError
        selected.add(name)
        waiting |= {other for other, entry in entries.items() if name in entry.wanted_by} - selected
    return sorted(selected)


def main() -> int:
    """Print the selection; returns the exit status."""
    parser = argparse.ArgumentParser(description="Select from requirements.lock.")
    parser.add_argument("names", nargs="*", help="extras, or with --only packages")
    parser.add_argument("--only", action="store_true", help="the packages named, not the program's own")
    parser.add_argument("--root", type=Path, default=ROOT, help="where pyproject.toml and the lock are")
    options = parser.parse_args()
    entries = read_lock((options.root / "requirements.lock").read_text(encoding="utf-8"))
    project = tomllib.loads((options.root / "pyproject.toml").read_text(encoding="utf-8"))
    try:
        roots = set(map(canonical, options.names)) if options.only else roots_of(project, options.names)
        names = select(entries, roots)
    except KeyError as error:
        sys.stderr.write(f"select_lock: {error.args[0]}: no such extra or package\n")
        return 2
    sys.stdout.writelines(entries[name].text for name in names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
