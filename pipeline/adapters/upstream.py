"""Upstream documents: JSON in which no number loses a digit, taken apart into single orders or invoices."""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from pipeline.adapters.places import Path, Record, is_empty
from pipeline.errors import EventError
from pipeline.events import Reason


class FoundRecord(NamedTuple):
    """One record, and where it stood: `orders[2]`, `line 3`; empty for a document that is one record."""

    at: str
    record: Record | None
    problem: EventError | None = None


def find_records(
    document: bytes, unwrap: Sequence[Path], headers: Mapping[str, str]
) -> Iterator[FoundRecord]:
    """Yield the records of a document: one, a list, a wrapped list, or JSON lines of these."""
    lowered = {name.lower(): value for name, value in headers.items()}
    for at, value in _documents(document):
        if isinstance(value, EventError):
            yield FoundRecord(at, None, value)
            continue
        for where, item in _unwrapped(value, unwrap):
            place = ": ".join(part for part in (at, where) if part)
            if isinstance(item, dict):
                yield FoundRecord(place, Record(item, lowered))
            else:
                yield FoundRecord(place, None, EventError(Reason.INVALID_DATA, "must be a JSON object"))


def _documents(document: bytes) -> Iterator[tuple[str, Any]]:
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield "", EventError(Reason.MALFORMED_JSON, f"not UTF-8 at byte {error.start}")
        return
    whole = _parsed(text)
    if not (isinstance(whole, EventError) and whole.detail == "Extra data"):
        yield "", whole
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", _parsed(line)


def _parsed(text: str) -> Any:
    """Return a JSON document, or the EventError that says why it is none."""
    try:
        return json.loads(
            text, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_unique
        )
    except EventError as error:
        return error
    except json.JSONDecodeError as error:
        return EventError(Reason.MALFORMED_JSON, error.msg)
    except RecursionError:
        return EventError(Reason.MALFORMED_JSON, "nested too deeply")
    except (ValueError, ArithmeticError):  # thousands of digits, or an exponent as long
        return EventError(Reason.MALFORMED_JSON, "a number is too long")


def _refuse_constant(_name: str) -> None:
    raise EventError(Reason.MALFORMED_JSON, "NaN and Infinity are no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise EventError(Reason.DUPLICATE_KEY, "an object has the same key twice")
    return values


def _unwrapped(value: Any, unwrap: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    name = ""
    for path in unwrap:
        inner = path.find(Record(value, {}))
        if isinstance(inner, list) or not is_empty(inner):
            name, value = path.text, inner
            break
    if isinstance(value, list):
        yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
    else:
        yield name, value
