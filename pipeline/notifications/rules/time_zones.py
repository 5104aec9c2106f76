"""Where in time a recipient is: by the telephone number, else by the country.

A number tells its zone where it belongs to a place, and else those of its whole numbering plan (all of Russia
and Kazakhstan for a mobile number of Kazakhstan), so these are narrowed down to the country's.
"""

from collections import defaultdict
from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from phonenumbers import PhoneNumberType
from phonenumbers.phonenumberutil import is_number_type_geographical
from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX

from pipeline.errors import RecipientRefusedError
from pipeline.notifications.rules.countries import calling_code
from pipeline.notifications.sms.phone import read_number
from pipeline.settings.sms import NumberType

_PLACED = {
    "fixed_line": PhoneNumberType.FIXED_LINE,
    "fixed_line_or_mobile": PhoneNumberType.FIXED_LINE_OR_MOBILE,
    "mobile": PhoneNumberType.MOBILE,
}
_CACHED_MAX = 4096


def zones_of_number(number: str) -> tuple[ZoneInfo, ...]:
    """Return the zones in which a number in E.164 may be, none when it is not known. 9 µs.

    As `phonenumbers.timezone` finds them, which takes 48 µs: the number's kind and region cost most of it.
    """
    try:
        e164, region, kind = read_number(number, None)
    except RecipientRefusedError:
        return ()
    return _within(_names_of_plan(e164[1:], kind), region)


def _names_of_plan(digits: str, kind: NumberType) -> tuple[str, ...]:
    """Return what the numbering plan says: of a number that belongs to a place the longest prefix counts."""
    if kind == "unknown":
        return ()
    code = calling_code(f"+{digits}")
    is_placed = kind in _PLACED and is_number_type_geographical(_PLACED[kind], int(code))
    for length in range(TIMEZONE_LONGEST_PREFIX if is_placed else len(code), 0, -1):
        if (names := TIMEZONE_DATA.get(digits[:length])) is not None:
            return names
    return ()


@lru_cache(maxsize=_CACHED_MAX)
def _within(names: tuple[str, ...], region: str) -> tuple[ZoneInfo, ...]:
    """Return those of a numbering plan's zones that are the country's too; where none is, the country's."""
    in_region = _names_by_country().get(region, ())
    both = tuple(name for name in names if name in in_region)
    return _zones(both or in_region or names)


@cache
def zones_of_country(country: str) -> tuple[ZoneInfo, ...]:
    """Return the zones of a country by its ISO 3166 code; none for what is no country."""
    return _zones(_names_by_country().get(country, ()))


@cache
def _names_by_country() -> dict[str, tuple[str, ...]]:
    """Return what zone.tab of the tz database says: a row for each zone, with its one country."""
    names: dict[str, list[str]] = defaultdict(list)
    table = files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    for line in table.splitlines():
        if line and not line.startswith("#"):
            country, _place, name, *_ = line.split("\t")
            names[country].append(name)
    return {country: tuple(found) for country, found in names.items()}


def _zones(names: tuple[str, ...]) -> tuple[ZoneInfo, ...]:
    found = []
    for name in names:
        try:
            found.append(ZoneInfo(name))
        except (ZoneInfoNotFoundError, ValueError):
            continue  # an old name, or one that this system does not know
    return tuple(found)
