"""Writes docs/reference/configuration.md from the settings structs, or checks that it is up to date."""

import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from made_files import write_or_check

from consumers.role_secrets import SECRETS_OF
from consumers.roles import Role
from pipeline.settings import SECRETS, SECTIONS, ShardSettings
from pipeline.settings.sections import NEEDED

TARGET = Path(__file__).parents[1] / "docs/reference/configuration.md"
HEAD = """# Configuration

<!-- Made by scripts/render_configuration.py from pipeline/settings/. Do not edit. -->

One TOML file, found by `--config`, `POSTORDER_CONFIG`, `./postorder.toml`, or, for the local stack,
`./var/stack/postorder.toml`. The environment overrides it: key `prefetch` of section `[amqp]` is
`POSTORDER_AMQP_PREFETCH`. A secret is never written into the file: it comes from the environment or from
a file named by `KEY_file` (relative to the TOML file) or by `POSTORDER_SECTION_KEY_FILE`.
A wrong value, an unknown key and an unknown `POSTORDER_…` variable each give one line, and exit status 2.
"""

SECRETS_HEAD = """
## Secrets by role

Each process is given the secrets that its roles use; it says at its start which of them it lacks, and
forgets those of other roles. `postorder migrate` uses `shards.password`, `postorder topology apply` uses
`amqp.password`.
"""


def _flatten(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    if get_origin(hint) is not Annotated:
        return hint, []
    inner, *metas = get_args(hint)
    base, deeper = _flatten(inner)
    return base, [*deeper, *(meta for meta in metas if isinstance(meta, msgspec.Meta))]


def _allowed(base: Any, metas: list[msgspec.Meta]) -> str:
    if get_origin(base) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(base))
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}.get(
        base, "list of texts"
    )
    for meta in metas:
        bounds = [("from", meta.ge), ("above", meta.gt), ("to", meta.le)]
        words += "".join(f" {word} {value:,}" for word, value in bounds if value is not None)
    return words


def _rows(struct: type[msgspec.Struct], needed: tuple[str, ...]) -> list[str]:
    hints = get_type_hints(struct, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(struct):
        base, metas = _flatten(hints[field.name])
        assert not isinstance(base, UnionType), field.name
        about = " ".join(meta.description for meta in metas if meta.description)
        if field.name in SECRETS:
            default = f"from the environment or `{field.name}_file`"
        elif field.required or field.name in needed:
            default = "required"
        else:
            default = f"`{msgspec.json.encode(field.default).decode()}`"
        rows.append(f"| `{field.name}` | {about} | {_allowed(base, metas)} | {default} |")
    return rows


def _secrets() -> list[str]:
    """Return the table of who uses which secret."""
    names = sorted(frozenset().union(*SECRETS_OF.values()))
    head = f"| secret | {' | '.join(Role)} |\n|---{'|---' * len(Role)}|"
    marks = {name: ["yes" if name in SECRETS_OF[role] else "" for role in Role] for name in names}
    return [SECRETS_HEAD, head, *(f"| `{name}` | {' | '.join(marks[name])} |" for name in names)]


def render() -> str:
    """Return the page."""
    parts = [HEAD, *_secrets()]
    sections: dict[str, type[msgspec.Struct]] = {"[shards]": ShardSettings, **SECTIONS}
    for name, struct in sections.items():
        about = (struct.__doc__ or "").strip()
        parts.append(f"\n## `[{name}]`\n\n{about}\n\n| key | meaning | value | default |\n|---|---|---|---|")
        parts += _rows(struct, NEEDED.get(name, ()))
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(write_or_check({TARGET: render()}))
