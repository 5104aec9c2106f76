"""Mapping files: how they are written, and what is wrong with one, in a line for each problem."""

import tomllib
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, field

from pipeline.adapters.places import Path, Place, parse_path, parse_place
from pipeline.adapters.targets import Target, sections_of, targets_of
from pipeline.adapters.values import CONVERTERS, MONEY_CONVERTERS, Spelling
from pipeline.errors import SettingsError

T = TypeVar("T", bound=msgspec.Struct)
Scalar = str | int | bool
_ENVELOPE = "envelope"


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold for a rule to apply. Exactly one of `equals`, `one_of` and `exists` is given."""

    path: str
    equals: Scalar | None = None
    one_of: list[Scalar] | None = None
    exists: bool | None = None
    or_absent: bool = False


class FieldText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A field as the file has it."""

    spelling: str = field(name="as")
    places: str | list[str] = field(name="from", default_factory=list)
    default: Scalar | None = None
    ignore: list[Scalar] = field(default_factory=list)
    offset: Annotated[str, Meta(pattern=r"\A(Z|[+-][0-9]{2}:[0-9]{2})\Z")] = ""
    round_to: Annotated[int, Meta(ge=0, le=4)] | None = None
    paired_with: str = ""


class RefusalText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Documents that are known and not taken, and why."""

    when: list[Condition]
    because: str


class _RuleText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=60)]
    event: Literal["order.processed", "invoice.generated"]
    id: Any
    source: Any
    data: dict[str, Any]
    when: list[Condition] = field(default_factory=list)
    time: Any = None
    customer: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, Any] | None = None
    document: dict[str, Any] | None = None


class _FileText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: str
    rules: list[Any]
    unwrap: list[str] = field(default_factory=list)
    refuse: list[RefusalText] = field(default_factory=list)
    minor_unit_digits: dict[
        Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")], Annotated[int, Meta(ge=0, le=4)]
    ] = field(default_factory=dict)


class Test(msgspec.Struct, frozen=True):
    """A condition with its path read."""

    path: Path
    condition: Condition


class Field(msgspec.Struct, frozen=True):
    """A field of the event: where its value is, in the order of trying, and how to read it."""

    places: tuple[Place, ...]
    converter: str
    spelling: Spelling
    required: bool
    default: Scalar | None
    ignore: frozenset[str]
    paired_with: str


class Rule(msgspec.Struct, frozen=True):
    """How one kind of upstream document becomes one kind of event."""

    name: str
    event: str
    when: tuple[Test, ...]
    sections: dict[str, dict[str, Field]]
    each_line: Path | None


class Refusal(msgspec.Struct, frozen=True):
    """A kind of upstream document that is not taken."""

    when: tuple[Test, ...]
    because: str


class Mapping(msgspec.Struct, frozen=True):
    """A mapping file that was read and checked."""

    about: str
    unwrap: tuple[Path, ...]
    rules: tuple[Rule, ...]
    refuse: tuple[Refusal, ...]
    minor_unit_digits: dict[str, int]


def read_mapping(path: FilePath) -> Mapping:
    """Read a mapping file. Raises SettingsError with every problem, each naming the file and the key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: not valid TOML: {error}"]) from error
    reading = _Reading()
    mapping = reading.mapping(table)
    if mapping is None or reading.problems:
        raise SettingsError([f"{path}: {problem}" for problem in reading.problems])
    return mapping


_OPTIONAL = ("lines", "document")  # an order without lines, an invoice of which upstream has no document


def fields_of_content(document: dict[str, Field]) -> list[Field]:
    """Return the fields of an invoice's document of which an event has exactly one."""
    return [document[name] for name in ("url", "content_base64") if name in document]


class _Reading:
    """Collects every problem, so that a user mends them in one go."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def mapping(self, table: dict[str, Any]) -> Mapping | None:
        text = self._convert("", table, _FileText)
        if text is None:
            return None
        rules = [self._rule(f"rules[{index}]", rule) for index, rule in enumerate(text.rules)]
        if not rules:
            self.problems.append("rules: at least one [[rules]] table is needed")
        names = [rule.name for rule in rules if rule]
        self.problems += [
            f"rules: the name {n!r} is used twice" for n in sorted(set(names)) if names.count(n) > 1
        ]
        return Mapping(
            about=text.about,
            unwrap=tuple(path for key in text.unwrap if (path := self._path("unwrap", key))),
            rules=tuple(rule for rule in rules if rule),
            refuse=tuple(
                Refusal(self._tests(f"refuse[{index}]", item.when), item.because)
                for index, item in enumerate(text.refuse)
            ),
            minor_unit_digits=text.minor_unit_digits,
        )

    def _rule(self, where: str, table: Any) -> Rule | None:
        text = self._convert(where, table, _RuleText)
        if text is None:
            return None
        where = f"rules.{text.name}"
        envelope = {name: getattr(text, name) for name in ("id", "source", "time")}
        given = {
            "data": text.data, "customer": text.customer, "lines": text.lines, "document": text.document
        }  # fmt: skip
        known = sections_of(text.event)
        self.problems += [
            f"{where}.{name}: {text.event} has no such table"
            for name in given
            if given[name] and name not in known
        ]
        sections = {_ENVELOPE: self._section(where, text.event, _ENVELOPE, envelope)}
        each = None
        for name in known:
            if name in _OPTIONAL and given[name] is None:
                continue
            fields = dict(given[name] or {})
            if name == "lines":
                each = self._path(f"{where}.lines.each", fields.pop("each", ""))
            sections[name] = self._section(f"{where}.{name}", text.event, name, fields)
        if "document" in sections and not fields_of_content(sections["document"]):
            self.problems.append(f"{where}.document: needs `url` or `content_base64`")
        return Rule(text.name, text.event, self._tests(where, text.when), sections, each)

    def _section(self, where: str, event: str, section: str, table: dict[str, Any]) -> dict[str, Field]:
        targets = targets_of(event, section)
        self.problems += [f"{where}.{key}: no such key" for key in table if key not in targets]
        self.problems += [
            f"{where}.{key}: is missing"
            for key, t in targets.items()
            if t.required and table.get(key) is None
        ]
        fields = {}
        for key, target in targets.items():
            if table.get(key) is not None:
                read = self._field(f"{where}.{key}", table[key], target)
                if read is not None:
                    fields[key] = read
        for key, read in fields.items():
            pair = fields.get(read.paired_with)
            if read.paired_with and (pair is None or len(pair.places) != len(read.places)):
                self.problems.append(
                    f"{where}.{key}.paired_with: must name a field of this table with as many places"
                )
        # A pair is read before the field that follows it.
        return dict(sorted(fields.items(), key=lambda item: bool(item[1].paired_with)))

    def _field(self, where: str, table: Any, target: Target) -> Field | None:
        before = len(self.problems)
        text = self._convert(where, table, FieldText)
        if text is None:
            return None
        money = text.spelling in MONEY_CONVERTERS
        written = [text.places] if isinstance(text.places, str) else text.places
        places = tuple(place for item in written if (place := self._place(f"{where}.from", item)))
        if text.spelling not in target.converters:
            self.problems.append(f"{where}.as: must be one of {', '.join(target.converters)}")
        if not written and text.default is None:
            self.problems.append(f"{where}: needs `from`, `default` or both")
        if not money and any(place.lists for place in places):
            self.problems.append(f"{where}.from: [*] is for amounts, which are added up")
        if text.round_to is not None and not where.endswith("lines.unit_price"):
            self.problems.append(f"{where}.round_to: is for the unit price of lines only; totals are exact")
        spelling = Spelling(target.chars_max, text.offset, text.round_to)
        default = self._default(where, text, spelling)
        if len(self.problems) > before:
            return None
        ignore = frozenset(str(item) for item in text.ignore)
        return Field(places, text.spelling, spelling, target.required, default, ignore, text.paired_with)

    def _default(self, where: str, text: FieldText, spelling: Spelling) -> Any:
        if text.default is None or text.spelling not in CONVERTERS:
            return None
        # A default is written as the event has it, so it is never in minor units.
        converter = "money" if text.spelling in MONEY_CONVERTERS else text.spelling
        try:
            return CONVERTERS[converter](text.default, spelling)
        except ValueError as error:
            self.problems.append(f"{where}.default: {error}")
            return None

    def _tests(self, where: str, conditions: Sequence[Condition]) -> tuple[Test, ...]:
        tests = []
        for index, condition in enumerate(conditions):
            key = f"{where}.when[{index}]"
            path = self._path(f"{key}.path", condition.path)
            given = (condition.equals, condition.one_of, condition.exists)
            if sum(item is not None for item in given) != 1:
                self.problems.append(f"{key}: needs exactly one of `equals`, `one_of` and `exists`")
            elif path:
                tests.append(Test(path, condition))
        return tuple(tests)

    def _place(self, where: str, text: str) -> Place | None:
        try:
            return parse_place(text)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return None

    def _path(self, where: str, text: Any) -> Path | None:
        try:
            return parse_path(str(text))
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return None

    def _convert(self, where: str, table: Any, kind: type[T]) -> T | None:
        try:
            return msgspec.convert(table, kind)
        except msgspec.ValidationError as error:
            rule, _, at = str(error).partition(" - at `$")
            key = f"{where}{at.rstrip('`')}".lstrip(".")
            self.problems.append(f"{key or 'file'}: {rule}")
            return None
