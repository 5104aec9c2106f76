"""Settings as they are read: from a TOML file, and the environment over it."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from pipeline.errors import SettingsError
from pipeline.settings.contradictions import contradictions
from pipeline.settings.sections import NEEDED, OPTIONAL, PRIVATE_KEYS, SECRETS, SECTIONS, Settings
from pipeline.settings.storage import ShardSettings

ENVIRONMENT_PREFIX = "POSTORDER_"


def load_settings(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from a TOML file (None: no file) and the environment (None: this process's).

    Raises SettingsError with one line per problem, each naming its key, and nothing of a secret's value.
    """
    environment = os.environ if environment is None else environment
    reading = _Reading(path, environment)
    document = reading.document()
    shards = tuple(reading.shards(document.pop("shards", [])))
    sections = {
        name: reading.section(name, document.pop(name, {}), struct) for name, struct in SECTIONS.items()
    }
    reading.problems += [f"[{name}]: no such section" for name in document]
    reading.unknown_variables()
    if not reading.problems:
        settings = Settings(shards=shards, **sections)
        reading.problems += list(contradictions(settings))
    if reading.problems:
        raise SettingsError(reading.problems)
    return settings


class _Reading:
    """Collects every problem, so that a user mends them in one go."""

    def __init__(self, path: Path | None, environment: Mapping[str, str]) -> None:
        self.path = path
        self.environment = environment
        self.problems: list[str] = []

    def document(self) -> dict[str, Any]:
        if self.path is None:
            return {}
        try:
            return tomllib.loads(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError([f"{self.path}: cannot be read: {error.strerror}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError([f"{self.path}: not valid TOML: {error}"]) from error

    def shards(self, tables: Any) -> list[ShardSettings]:
        if not isinstance(tables, list) or not tables:
            self.problems.append("shards: at least one [[shards]] table is needed")
            return []
        read = []
        for index, table in enumerate(tables):
            name = str(table.get("name", index)) if isinstance(table, dict) else str(index)
            prefix = f"{ENVIRONMENT_PREFIX}SHARD_{name.upper()}_"
            values = self._values(f"shards.{name}", table, ShardSettings, prefix)
            if values is not None:
                read.append(ShardSettings(**values))
        names = [shard.name for shard in read]
        self.problems += [f"shards.{n}.name: used twice" for n in sorted(set(names)) if names.count(n) > 1]
        return read

    def section(self, name: str, table: Any, struct: type[msgspec.Struct]) -> Any:
        prefix = f"{ENVIRONMENT_PREFIX}{name.upper()}_"
        if name in OPTIONAL and table == {} and not any(key.startswith(prefix) for key in self.environment):
            return None
        values = self._values(name, table, struct, prefix)
        if values is None:
            return None
        self.problems += [f"{name}.{key}: is missing" for key in NEEDED.get(name, ()) if not values.get(key)]
        return struct(**values)

    def _values(
        self, where: str, table: Any, struct: type[msgspec.Struct], prefix: str
    ) -> dict[str, Any] | None:
        """Return the checked values that are set, or None after noting what is wrong with them."""
        if not isinstance(table, dict):
            self.problems.append(f"{where}: must be a table")
            return None
        before = len(self.problems)
        hints = get_type_hints(struct, include_extras=True)
        required = {f.name for f in msgspec.structs.fields(struct) if f.required}
        values = {}
        for key, hint in hints.items():
            raw = self._raw(where, key, hint, dict(table), prefix)
            if raw is None:
                self.problems += [f"{where}.{key}: is missing"] if key in required else []
                continue
            try:
                values[key] = msgspec.convert(raw, hint, strict=not isinstance(raw, str))
            except msgspec.ValidationError as error:
                self.problems.append(f"{where}.{key}: {_plain(error, secret=key in SECRETS)}")
        allowed = {*hints, *(f"{key}_file" for key in hints if key in SECRETS)}
        self.problems += [f"{where}.{key}: no such key" for key in table if key not in allowed]
        return None if len(self.problems) > before else values

    def _raw(self, where: str, key: str, hint: Any, table: dict[str, Any], prefix: str) -> Any:
        if prefix + key.upper() in self.environment:
            text = self.environment[prefix + key.upper()]
            return text.split(",") if _is_list(hint) else text
        if key not in SECRETS:
            return table.get(key)
        if key in table:
            self.problems.append(f"{where}.{key}: a secret: set {prefix}{key.upper()} or {where}.{key}_file")
            return None
        name = self.environment.get(f"{prefix}{key.upper()}_FILE", table.get(f"{key}_file"))
        return self._secret_from_file(where, key, name)

    def _secret_from_file(self, where: str, key: str, name: Any) -> str | None:
        if name is None:
            return None
        try:
            path = (self.path.parent if self.path else Path()) / str(name)
            if key in PRIVATE_KEYS and path.stat().st_mode & 0o007:
                self.problems.append(f"{where}.{key}_file: {name}: everybody can read it: chmod 640")
                return None
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            self.problems.append(f"{where}.{key}_file: {name}: cannot be read: {error.strerror}")
            return None

    def unknown_variables(self) -> None:
        """Note misspelt variables: an override that silently does nothing is the worst kind."""
        keys = {(section, key) for section, struct in SECTIONS.items() for key in get_type_hints(struct)}
        known = {"CONFIG", *(f"{section}_{key}".upper() for section, key in keys)}
        known |= {f"{section}_{key}_FILE".upper() for section, key in keys if key in SECRETS}
        for name in self.environment:
            rest = name.removeprefix(ENVIRONMENT_PREFIX)
            if rest != name and rest not in known and not rest.startswith(("SHARD_", "STACK_")):
                self.problems.append(f"{name}: no such setting")


def _plain(error: msgspec.ValidationError, *, secret: bool) -> str:
    text = "not valid" if secret else str(error).replace("Expected `", "must be `").split(" - at `$`")[0]
    return re.sub(r"`(str|int|float|bool|array|object|null)`", lambda m: _WORDS[m[1]], text)


_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def _is_list(hint: Any) -> bool:
    return get_origin(get_args(hint)[0]) is tuple
