"""Adapters: an upstream document in, CloudEvents out, by the rules of a mapping file. Pure."""

import re
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as AnyMapping
from datetime import datetime
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from pipeline.adapters.currencies import minor_unit_digits
from pipeline.adapters.mapping_file import Field, Mapping, Rule, Test, fields_of_content, read_mapping
from pipeline.adapters.places import Place, Record, is_empty
from pipeline.adapters.upstream import find_records
from pipeline.adapters.values import CONVERTERS
from pipeline.errors import EventError, SettingsError
from pipeline.events import DATA_SCHEMAS, SPEC_VERSION, Event, Reason

_FOLDER: Final = FilePath(__file__).parent
_NO_HEADERS: Final[AnyMapping[str, str]] = MappingProxyType({})
# A kind of document is a word such as `invoice.paid`: it tells no personal data, and an operator needs it.
_kind_word = re.compile(r"[A-Za-z][A-Za-z0-9_./]{0,59}").fullmatch
_encode = msgspec.json.Encoder().encode


class Adapted(NamedTuple):
    """An event that an adapter made, or the problem with the record at `at` of the document."""

    at: str
    body: bytes
    event_type: str
    problem: EventError | None


class Adapter:
    """Makes events of one system's documents."""

    def __init__(self, name: str, mapping: Mapping) -> None:
        self.name = name
        self._mapping = mapping

    def __repr__(self) -> str:
        return f"<Adapter {self.name}: {', '.join(rule.name for rule in self._mapping.rules)}>"

    @property
    def about(self) -> str:
        """What the adapter takes, in one line."""
        return self._mapping.about

    def adapt(self, document: bytes, headers: AnyMapping[str, str] = _NO_HEADERS) -> list[bytes]:
        """Return the structured CloudEvents of a document.

        Raises EventError for the first record that makes no event, saying where in the document.
        """
        events = []
        for adapted in self.adapt_each(document, headers):
            if adapted.problem is not None:
                raise adapted.problem
            events.append(adapted.body)
        return events

    def adapt_each(self, document: bytes, headers: AnyMapping[str, str] = _NO_HEADERS) -> Iterator[Adapted]:
        """Yield the events of a document one by one; a bad record does not take the others with it."""
        for found in find_records(document, self._mapping.unwrap, headers):
            if found.record is None:
                yield Adapted(found.at, b"", "", _located(found.at, found.problem))
                continue
            try:
                rules = self._rules_for(found.record)
            except EventError as error:
                yield Adapted(found.at, b"", "", _located(found.at, error))
                continue
            for rule in rules:
                try:
                    yield Adapted(found.at, self._event(rule, found.record), rule.event, None)
                except EventError as error:
                    yield Adapted(found.at, b"", rule.event, _located(found.at, error))

    def _rules_for(self, record: Record) -> list[Rule]:
        for refusal in self._mapping.refuse:
            if not any(_failed(test, record) for test in refusal.when):
                raise EventError(Reason.UNKNOWN_TYPE, refusal.because)
        failed = {rule.name: _first_failed(rule, record) for rule in self._mapping.rules}
        rules = [rule for rule in self._mapping.rules if not failed[rule.name]]
        if not rules:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
            raise EventError(Reason.UNKNOWN_TYPE, f"no rule of {self.name} applies: {reasons}")
        return rules

    def _event(self, rule: Rule, record: Record) -> bytes:
        reading = _Reading(rule, self._mapping.minor_unit_digits)
        data = reading.data(record)  # before the envelope: its errors say more
        event = {
            "specversion": SPEC_VERSION,
            "type": rule.event,
            **reading.section("envelope", record),
            "datacontenttype": "application/json",
            "dataschema": DATA_SCHEMAS[rule.event],
            "data": data,
        }
        try:
            msgspec.convert(event, Event)
            body = _encode(event)
        except msgspec.ValidationError as error:
            raise EventError(Reason.INVALID_DATA, f"{rule.name}: {error}") from None
        except UnicodeEncodeError:
            raise EventError(Reason.INVALID_DATA, f"{rule.name}: a text holds half a character") from None
        if b"\\u0000" in body:
            raise EventError(Reason.INVALID_DATA, f"{rule.name}: a text holds the character NUL")
        return body


class _Reading:
    """Reads the values of one event out of one record."""

    def __init__(self, rule: Rule, digits: AnyMapping[str, int]) -> None:
        self._rule = rule
        self._digits = digits
        self._currency = ""

    def data(self, record: Record) -> dict[str, Any]:
        """Return the event's data. The currency comes first: it says what minor units are worth."""
        sections = self._rule.sections
        currency = sections["data"]["currency"]
        self._currency = str(self._value("data.currency", currency, record, None)[0] or "")
        data = self.section("data", record)
        if "customer" in sections:
            data["customer"] = self.section("customer", record)
            data["lines"] = self._lines(record)
        if "document" in sections:
            data["document"] = self._document(record)
        return data

    def _document(self, record: Record) -> dict[str, Any]:
        document = self.section("document", record)
        if not document.keys() & {"url", "content_base64"}:
            places = [
                place
                for field in fields_of_content(self._rule.sections["document"])
                for place in field.places
            ]
            raise self._error("document", _nothing_at(places))
        return document

    def section(self, name: str, record: Record, label: str = "") -> dict[str, Any]:
        """Return the values of a section's fields; absent ones are left out."""
        values: dict[str, Any] = {}
        positions: dict[str, int | None] = {}
        for key, field in self._rule.sections[name].items():
            where = key if name == "envelope" else f"{label or name}.{key}"
            value, position = self._value(where, field, record, positions.get(field.paired_with))
            positions[key] = position
            if value is not None:
                values[key] = value
        return values

    def _lines(self, record: Record) -> list[dict[str, Any]]:
        each = self._rule.each_line
        if each is None:
            return []
        items = each.find(record)
        if not isinstance(items, list):
            raise self._error("lines", f"`{each.text}` must be a list")
        return [
            self.section("lines", Record(item, record.headers), f"lines[{index}]")
            for index, item in enumerate(items)
        ]

    def _value(self, where: str, field: Field, record: Record, pair: int | None) -> tuple[Any, int | None]:
        """Return the first value that says something, and the position of its place."""
        for position, place in enumerate(field.places):
            if pair not in (None, position):
                continue
            try:
                found = place.find(record)
                value = None if is_empty(found) else self._converted(field, found)
            except ValueError as error:
                raise self._error(where, f"`{place.text}` {error}") from None
            if value is not None and str(value) not in field.ignore:
                return value, position
        if field.default is None and field.required:
            raise self._error(where, _nothing_at(field.places))
        return field.default, None

    def _converted(self, field: Field, found: Any) -> str | int | datetime | None:
        spelling = field.spelling
        if field.converter == "minor_units":
            digits = self._digits.get(self._currency, minor_unit_digits(self._currency))
            if digits is None:
                raise ValueError("is in a currency of unknown minor units: name it in [minor_unit_digits]")
            spelling = spelling._replace(minor_digits=digits)
        value: str | int | datetime | None = CONVERTERS[field.converter](found, spelling)
        return value

    def _error(self, where: str, rule: str) -> EventError:
        return EventError(Reason.INVALID_DATA, f"{self._rule.name}: {where}: {rule}")


def load_adapter(name_or_path: str) -> Adapter:
    """Return a built-in adapter by its name, or the adapter of a mapping file.

    Raises SettingsError with one line for each problem.
    """
    if name_or_path in builtin_adapters():
        return Adapter(name_or_path, read_mapping(_FOLDER / f"{name_or_path}.toml"))
    path = FilePath(name_or_path)
    if path.suffix != ".toml" and not path.exists():
        names = ", ".join(builtin_adapters())
        raise SettingsError([f"{name_or_path}: neither a mapping file (*.toml) nor one of {names}"])
    return Adapter(path.stem, read_mapping(path))


def builtin_adapters() -> list[str]:
    """Return the names of the adapters that come with Postorder."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def _nothing_at(places: Sequence[Place]) -> str:
    return f"is needed, and nothing is at {' or '.join(f'`{place.text}`' for place in places)}"


def _first_failed(rule: Rule, record: Record) -> str:
    return next((reason for test in rule.when if (reason := _failed(test, record))), "")


def _failed(test: Test, record: Record) -> str:
    """Return why a condition does not hold, or nothing."""
    condition, name = test.condition, test.path.text
    found = test.path.find(record)
    there = not is_empty(found)
    if condition.exists is not None:
        if there == condition.exists:
            return ""
        return f"`{name}` must be {'there' if condition.exists else 'absent'}"
    if not there and condition.or_absent:
        return ""
    allowed = condition.one_of if condition.one_of is not None else [condition.equals]
    if there and _plain(found) in {_plain(item) for item in allowed}:
        return ""
    words = ", ".join(str(item) for item in allowed)
    is_what = _kind(found) if there else "is absent"
    return f"`{name}` must be {'one of ' if len(allowed) > 1 else ''}{words}, and {is_what}"


def _kind(found: Any) -> str:
    word = isinstance(found, str) and _kind_word(found.strip())
    return f"is {found.strip()}" if word else "is something else"


def _plain(value: Any) -> str:
    return str(value).strip().casefold()


def _located(at: str, problem: EventError | None) -> EventError | None:
    """Say where in the document a problem is, unless the document is one record."""
    if problem is None or not at:
        return problem
    return EventError(problem.reason, f"{at}: {problem.detail}")
