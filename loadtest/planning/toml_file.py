"""A TOML file as a typed struct, with refusals that name file and key."""

from pathlib import Path
from typing import TypeVar

import msgspec

from pipeline.errors import SettingsError

T = TypeVar("T", bound=msgspec.Struct)


def read_toml(path: Path, kind: type[T]) -> T:
    """Read a file. Raises SettingsError: not there, not TOML, or a key that is unknown, missing or wrong."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from error
    except msgspec.DecodeError as error:  # ValidationError is one
        raise SettingsError([f"{path}: {error}"]) from error
