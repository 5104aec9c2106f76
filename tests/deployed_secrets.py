"""Which secrets a deployment tells a process of: by the settings file, and by POSTORDER_…_FILE."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consumers.role_needs import require_needs
from consumers.role_secrets import SECRETS_OF
from consumers.roles import Role
from pipeline.settings import ENVIRONMENT_PREFIX, SECRETS, SECTIONS, Settings, load_settings

# What every installation has that uses what the examples use.
USED = {
    "shards.password",
    "amqp.password",
    "sms.auth_token",
    "public.secret",
    "public.bounce_secret",
    "api.secret",
}


def secrets_named(text: str, variables: Mapping[str, str]) -> dict[str, set[str]]:
    """The files of each secret, SECTION.KEY; those of all shards are `shards.password`."""
    document: dict[str, Any] = tomllib.loads(text)
    shards = document.pop("shards")
    tables = [("shards", table) for table in shards] + list(document.items())
    found = [
        (f"{name}.{key.removesuffix('_file')}", file)
        for name, table in tables
        for key, file in table.items()
        if key.removesuffix("_file") in SECRETS
    ]
    found += [
        (f"{name}.{key}", variables[variable])
        for name, key, variable in _variables([shard["name"] for shard in shards])
        if variable in variables
    ]
    named: dict[str, set[str]] = {}
    for name, file in found:
        named.setdefault(name, set()).add(file)
    return named


def _variables(shards: list[str]) -> list[tuple[str, str, str]]:
    sections = [("shards", f"SHARD_{shard}", "password") for shard in shards]
    sections += [
        (name, name, key)
        for name, struct in SECTIONS.items()
        for key in struct.__struct_fields__
        if key in SECRETS
    ]
    return [(name, key, f"{ENVIRONMENT_PREFIX}{prefix}_{key}_FILE".upper()) for name, prefix, key in sections]


def wanted(roles: frozenset[Role], used: set[str]) -> set[str]:
    """What these roles use of the secrets that an installation has."""
    return set().union(*(SECRETS_OF[role] for role in roles)) & used


def started_with(folder: Path, text: str, variables: Mapping[str, str], roles: frozenset[Role]) -> Settings:
    """The settings, read by the program from a file for each secret, and refused where a role lacks one."""
    for file in set().union(*secrets_named(text, variables).values()):
        path = folder / file.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 40)
        text = text.replace(f'"{file}"', f'"{path}"')
        variables = {name: str(path) if value == file else value for name, value in variables.items()}
    toml = folder / "postorder.toml"
    toml.write_text(text, encoding="utf-8")
    settings = load_settings(
        toml, {name: value for name, value in variables.items() if "_TRACES_" not in name}
    )
    require_needs(settings, roles)
    return settings
