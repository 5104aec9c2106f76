"""Phone numbers as upstream has them, and which of them an SMS may go to."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat

from pipeline.errors import RecipientRefusedError
from pipeline.notifications.sms.numbering_plan import plan_of
from pipeline.settings.sms import NumberType

# What people type: digits, and the usual separators. Letters, extensions and other scripts are refused,
# although the library would make something of them.
_CHARACTERS: Final = re.compile(r"[+0-9 ().-]*", re.ASCII)
_SEPARATORS: Final = str.maketrans("", "", " ().-")
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_FORMER_MEXICAN: Final = re.compile(r"\+521([0-9]{10})", re.ASCII)  # until 2019, mobiles had a 1 there
_CHARS_MAX: Final = 30
_CACHE_MAX: Final = 4096


class Number(NamedTuple):
    """A phone number. `region`: of ISO 3166, empty where the numbering plan does not say."""

    e164: str
    region: str
    kind: NumberType


class PhonePolicy:
    """Judges numbers: whether they are any, and of a kind that may be texted."""

    def __init__(self, allowed: Iterable[NumberType]) -> None:
        self._allowed = frozenset(allowed)

    def judge(self, raw: str | None, country: str | None) -> Number:
        """Return a number that may be texted. `country` is a hint for numbers without a country code.

        Raises RecipientRefusedError with code `no_phone`, `invalid_phone` or `phone_` and the kind.
        """
        number = read_number(raw, country)
        if number.kind not in self._allowed:
            raise RecipientRefusedError(f"phone_{number.kind}", "numbers of this kind are not texted")
        return number


def phone_number(raw: str | None, country: str | None) -> str:
    """Return a phone number in E.164, whatever its kind. Raises as PhonePolicy.judge does."""
    return read_number(raw, country).e164


def read_number(raw: str | None, country: str | None) -> Number:
    """Read a number of any kind. Raises RecipientRefusedError with code `no_phone` or `invalid_phone`."""
    text = raw.strip() if raw else ""
    if not text:
        raise RecipientRefusedError("no_phone", "the order has no phone number")
    if len(text) > _CHARS_MAX or not _CHARACTERS.fullmatch(text) or "+" in text[1:]:
        raise _invalid()
    compact = text.translate(_SEPARATORS)
    if former := _FORMER_MEXICAN.fullmatch(compact):
        compact = text = f"+52{former[1]}"
    number = _international(compact) if _E164.fullmatch(compact) else None
    if number is None:
        number = _parsed(text, country)
    if number is None:
        raise _invalid()
    return number


def _invalid() -> RecipientRefusedError:
    """Return a new error each time: one that is raised again keeps every frame it ever went through."""
    return RecipientRefusedError("invalid_phone", "not a phone number")


def _international(e164: str) -> Number | None:
    """Read a number that starts with its calling code, or return None where the library has to parse it.

    Parsing takes 50 µs, mostly to find what is not there: extensions, other scripts, carrier codes. Only a
    national prefix (`+49 030 …`) is left to it, and codes that nobody has.
    """
    for length in (1, 2, 3):
        plan = plan_of(int(e164[1 : 1 + length]))
        if plan is not None:
            digits = e164[1 + length :]
            place = None if plan.may_have_prefix(digits) else plan.place(digits)
            return None if place is None else Number(e164, *place)
    return None


@lru_cache(maxsize=_CACHE_MAX)
def _parsed(text: str, country: str | None) -> Number | None:
    if text.startswith("+0"):
        return None  # the library would take it for an international prefix
    try:
        number = phonenumbers.parse(text, country)
    except NumberParseException:
        return None
    plan = plan_of(number.country_code or 0)
    # Not the library's "possible": to that, a local number without its area code is possible too.
    place = plan.place(phonenumbers.national_significant_number(number)) if plan is not None else None
    if place is None:
        return None
    return Number(phonenumbers.format_number(number, PhoneNumberFormat.E164), *place)
