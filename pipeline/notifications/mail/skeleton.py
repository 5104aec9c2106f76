"""Templates rendered once per shape: what is left per message is to join fixed text and values.

Rendering an order mail by Jinja takes 185 µs. But a template that only writes values out (`{{ name }}`) and
asks whether there are any (`{% if name %}`) gives the same text around them for every message of one shape:
as many lines, the same values present. So it is rendered with marks in the place of values, cut at the marks,
encoded, and kept. A template that does more with a value (a filter, a comparison, a macro) is rendered by
Jinja for every message; `writes_values_only` finds out which.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import msgspec
from jinja2 import Environment, TemplateNotFound, nodes
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import escape

from pipeline.notifications.mail.quoted_printable import (
    LINE_CHARS_MAX,
    SOFT_BREAK,
    Piece,
    encode_piece,
)
from pipeline.notifications.mail.words import COUNTS, FORMS, LINE_VALUES, SETTINGS, VALUES, Words

# Private-use characters: Jinja passes them on, and no value can hold them, because values are printable.
_escaped = re.compile("[&<>\"']").search
_PARENTS_MAX = 16
_MARK = re.compile("\ue000([0-9]+)\ue001")


def mark(index: int) -> str:
    """Return what stands for the value of this index while a template is rendered."""
    return f"\ue000{index}\ue001"


class Skeleton:
    """A rendered text cut at its marks: fixed text, the index of a value, fixed text, and so on."""

    def __init__(self, rendered: str) -> None:
        cut = _MARK.split(rendered)
        self._first = cut[0]
        self._slots = [(int(index), fixed) for index, fixed in zip(cut[1::2], cut[2::2], strict=True)]
        self._first_piece = encode_piece(self._first)
        self._pieces: list[tuple[int, Piece]] = [(index, encode_piece(fixed)) for index, fixed in self._slots]

    def text(self, values: list[str]) -> str:
        """Return the text with these values."""
        filled = ((values[index], fixed) for index, fixed in self._slots)
        return self._first + "".join(chain.from_iterable(filled))

    def encoded(self, values: Sequence[Piece]) -> bytes:
        """Return the text with these encoded values in quoted-printable, ending with CRLF."""
        content, first, last = self._first_piece
        out, column = [content], first if last < 0 else last
        append = out.append
        # What join() does, written out: this is most of what a mail's text costs.
        for index, fixed in self._pieces:
            for content, first, last in (values[index], fixed):
                if column and column + first >= LINE_CHARS_MAX:
                    append(SOFT_BREAK)
                    column = 0
                append(content)
                column = column + first if last < 0 else last
        if column:
            append(b"\r\n")
        return b"".join(out)


def encoded_values(values: list[str]) -> tuple[list[Piece], list[Piece]]:
    """Return values encoded for text and for HTML, which are the same as long as nothing is escaped."""
    plain = list(map(encode_piece, values))
    if _escaped("".join(values)):
        return plain, [encode_piece(str(escape(value))) for value in values]
    return plain, plain


def writes_values_only(environment: Environment, name: str) -> bool:
    """Tell whether a template, and those it extends, only write values out or ask whether there are any."""
    assert environment.loader is not None
    for _ in range(_PARENTS_MAX):
        try:
            source, _, _ = environment.loader.get_source(environment, name)
        except TemplateNotFound:
            return False  # rendering it will say so
        is_plain, parent = _looked_at(source)
        if not is_plain or parent is None:
            return is_plain
        name = parent
    return False  # one that extends itself, by whatever way; rendering it will say so


@lru_cache(256)
def _looked_at(source: str) -> tuple[bool, str | None]:
    """Return whether a template by itself is plain, and the name of the one it extends."""
    tree = _reader.parse(source)
    parents = list(tree.find_all(nodes.Extends))
    if "\ue000" in source or not all(map(_is_plain, tree.body)):
        return False, None
    if not parents:
        return True, None
    if len(parents) > 1 or parents[0] not in tree.body or not isinstance(parents[0].template, nodes.Const):
        return False, None
    return True, str(parents[0].template.value)


_reader = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)


def _is_plain(node: nodes.Node) -> bool:
    match node:
        case nodes.TemplateData() | nodes.Extends():
            return True
        case nodes.Output():
            return all(map(_is_written, node.nodes))
        case nodes.If():
            inner = chain(node.body, node.elif_, node.else_)
            return _is_asked(node.test) and all(map(_is_plain, inner))
        case nodes.Block():
            return all(map(_is_plain, node.body))
        case nodes.For():
            is_over_lines = isinstance(node.iter, nodes.Name) and node.iter.name == "lines"
            takes_line = isinstance(node.target, nodes.Name) and node.target.name == "line"
            plain = all(map(_is_plain, chain(node.body, node.else_)))
            return is_over_lines and takes_line and node.test is None and not node.recursive and plain
    return False


def _is_written(node: nodes.Node) -> bool:
    match node:
        case nodes.TemplateData() | nodes.Const():
            return True
        case nodes.Concat():
            return all(map(_is_written, node.nodes))
        case nodes.CondExpr():
            return (
                _is_asked(node.test)
                and _is_written(node.expr1)
                and (node.expr2 is None or _is_written(node.expr2))
            )
    return _is_value(node) or not _mentions_values(node)


def _is_asked(node: nodes.Node) -> bool:
    match node:
        case nodes.Not():
            return _is_asked(node.node)
        case nodes.And() | nodes.Or():
            return _is_asked(node.left) and _is_asked(node.right)
        case nodes.Name(name="lines"):
            return True
    return _is_value(node) or not _mentions_values(node)


def _is_value(node: nodes.Node) -> bool:
    match node:
        case nodes.Name():
            return node.name in _SCALARS
        case nodes.Getattr(node=nodes.Name(name="line")):
            return node.attr in LINE_VALUES
    return False


def _mentions_values(node: nodes.Node) -> bool:
    """Tell whether anything but constants and counts is inside; what is not known counts as a value."""
    names = {name.name for name in chain([node], node.find_all(nodes.Name)) if isinstance(name, nodes.Name)}
    return not names <= _KNOWN_BY_SHAPE or any(node.find_all(nodes.Call))


_KNOWN_BY_SHAPE = frozenset((*COUNTS, *FORMS, "loop"))
_SCALARS = frozenset((*VALUES, *COUNTS, *FORMS, *SETTINGS))


def marked(words: Words) -> Words:
    """Return words of the same shape with marks for values."""
    return msgspec.structs.replace(
        words, values=[mark(index) if value else "" for index, value in enumerate(words.values)]
    )
