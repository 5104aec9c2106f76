"""Where a value is in an upstream document: a path, a header, or a text put together from both.

customer.email              a field of a field
lines[0].id                 the first of a list
requests[*].amount          all of a list: amounts are added up
metadata[key=order_id].value  the first of a list whose field `key` is `order_id`
header:X-Shop-Domain        a header of the delivery
{first_name} {last_name}    a text of several; absent when one of them is
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_STEP = re.compile(
    r"\.?(?P<name>[^.\[\]{}]+)|\[(?P<index>\d{1,4}|\*)\]|\[(?P<key>[^=\[\]{}]+)=(?P<value>[^\[\]{}]+)\]"
)
_PART = re.compile(r"\{([^{}]*)\}")
_HEADER: Final = "header:"


class Record(NamedTuple):
    """One upstream order or invoice, and the headers it came with; their names are in lower case."""

    document: Any
    headers: Mapping[str, str]


class _All(NamedTuple):
    """Every element of a list."""


class _Matching(NamedTuple):
    """The first element of a list in which a field has a value."""

    key: str
    value: str


_Step = str | int | _All | _Matching


class Path(NamedTuple):
    """A path into a document, or a header."""

    text: str
    header: str
    steps: tuple[_Step, ...]

    def find(self, record: Record) -> Any:
        """Return what is there, or None."""
        if self.header:
            return record.headers.get(self.header)
        return _walk(record.document, self.steps)

    @property
    def lists(self) -> bool:
        """Whether the path leads to all elements of a list."""
        return any(isinstance(step, _All) for step in self.steps)


class Place(NamedTuple):
    """A path, or a template: its literal texts and paths in turn."""

    text: str
    parts: tuple[str | Path, ...]

    def find(self, record: Record) -> Any:
        """Return what is there, or None. Raises ValueError when a template's part is no text or number."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Path):
            return self.parts[0].find(record)
        texts = []
        for part in self.parts:
            text = part if isinstance(part, str) else _as_text(part.find(record))
            if text is None:
                return None
            texts.append(text)
        return "".join(texts)

    @property
    def lists(self) -> bool:
        """Whether one of its paths leads to all elements of a list."""
        return any(isinstance(part, Path) and part.lists for part in self.parts)


def is_empty(value: Any) -> bool:
    """Return whether a value says nothing: null, blank text, an empty list or object."""
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())


def parse_path(text: str) -> Path:
    """Return a path as written in a mapping file. Raises ValueError when it is none."""
    if text.startswith(_HEADER) and text != _HEADER:
        return Path(text, text.removeprefix(_HEADER).strip().lower(), ())
    steps: list[_Step] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None or (found["name"] and (at > 0) != text.startswith(".", at)):
            break
        steps.append(_step(found))
        at = found.end()
    if not steps or at < len(text) or not isinstance(steps[0], str):
        raise ValueError(f"{text!r} is no path such as customer.email, lines[0].id or header:X-Topic")
    return Path(text, "", tuple(steps))


def parse_place(text: str) -> Place:
    """Return a path or template as written in a mapping file. Raises ValueError when it is neither."""
    if "{" not in text and "}" not in text:
        return Place(text, (parse_path(text),))
    pieces = _PART.split(text)  # literal, path, literal, path, …, literal
    if any("{" in literal or "}" in literal for literal in pieces[::2]):
        raise ValueError(f"{text!r} has a brace without its other half")
    parts = [piece if at % 2 == 0 else parse_path(piece) for at, piece in enumerate(pieces)]
    return Place(text, ("", *(part for part in parts if part != "")))


def _step(found: re.Match[str]) -> _Step:
    if found["name"]:
        return found["name"]
    if found["key"]:
        return _Matching(found["key"], found["value"])
    return _All() if found["index"] == "*" else int(found["index"])


def _walk(value: Any, steps: tuple[_Step, ...]) -> Any:
    for at, step in enumerate(steps):
        match step:
            case str():
                value = value.get(step) if isinstance(value, dict) else None
            case _ if not isinstance(value, list):
                return None
            case int():
                value = value[step] if step < len(value) else None
            case _All():
                return [_walk(item, steps[at + 1 :]) for item in value]
            case _Matching(key, wanted):
                value = next((i for i in value if isinstance(i, dict) and str(i.get(key)) == wanted), None)
    return value


def _as_text(value: Any) -> str | None:
    if is_empty(value):
        return None
    if isinstance(value, str):
        return value.strip()
    if type(value) is int:
        return str(value)
    # A floating-point id has lost digits before it came here; a list or object is no text at all.
    raise ValueError("must be made of texts and whole numbers")
