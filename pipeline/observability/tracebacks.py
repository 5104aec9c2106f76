"""Errors as log lines may show them: where they happened and what kind they are, never what they quote.

The text of a foreign error is made of the values at hand: a name that cannot be encoded, a key that is
missing, a row that a constraint refuses. Only texts of our own errors are known to hold no personal data.
"""

import errno
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from pipeline.errors import PostorderError


def described(error: BaseException) -> str:
    """Return the error with its causes, the first one first: frames, the class, and what is safe to say."""
    parts = []
    for one, link in _chain(error):
        frames = "".join(traceback.format_tb(one.__traceback__))
        parts.append(f"{link}Traceback (most recent call last):\n{frames}{summary(one)}")
        if isinstance(one, BaseExceptionGroup):
            parts += [f"one of the group: {summary(member)}" for member in one.exceptions]
    return "\n".join(parts)


def summary(error: BaseException) -> str:
    """Return an error's class, and its text where that is one of our own."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, PostorderError):
        return f"{name}: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: {errno.errorcode.get(error.errno, error.errno)}"
    return name


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    links: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        links.append((current, ""))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    first, *later = reversed(links)
    yield first
    for one, _ in later:
        yield one, "\nand then, because of it:\n"


def error_of(exc_info: Any) -> BaseException | None:
    """Return the error that a logger was given as `exc_info`, in any of the forms that are allowed."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        found = exc_info[1]
        return found if isinstance(found, BaseException) else None
    return sys.exc_info()[1] if exc_info else None
