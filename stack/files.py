"""Files that are replaced in one step, and files that hold secrets."""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step by one that only its owner can read.

    Whoever is killed meanwhile leaves the old file or the new one, never half of one or a readable one.
    """
    _replace(path, text, 0o600)


def replace_file(path: Path, text: str) -> None:
    """Replace a file in one step; its mode stays."""
    _replace(path, text, path.stat().st_mode & 0o777)


def _replace(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
