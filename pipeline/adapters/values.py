"""How upstream spells values, and how an event spells them.

A converter returns the event's value, or None for one that says nothing. It raises ValueError with the rule
that was broken; the text never quotes the value, which may be personal data.
"""

import html
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final, NamedTuple

import msgspec

from pipeline.events import ID_CHARS_MAX

_DECIMAL_CHARS_MAX: Final = 40
_WHOLE_DIGITS_MAX, _DECIMALS_MAX = 14, 4
# A number such as 1e999999999 is short as JSON, and a gigabyte once it is written out.
_EXPONENT_MAX: Final = 30
_EPOCH_S_MAX: Final = 99_999_999_999  # the year 5138; milliseconds since 1970 are above it
_QUANTITY_MAX: Final = 1_000_000
_exact = Context(prec=100)
_decimal = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?").fullmatch
_locale = re.compile(r"([A-Za-z]{2,3})(?:[-_]([A-Za-z]{4}))?(?:[-_]([A-Za-z]{2}|[0-9]{3}))?").fullmatch


class Spelling(NamedTuple):
    """What a converter must know beside the value."""

    chars_max: int | None = None
    offset: str = ""
    round_to: int | None = None
    minor_digits: int | None = None


Converter = Callable[[Any, Spelling], Any]


def _id(value: Any, spelling: Spelling) -> str:
    if type(value) is not int and not isinstance(value, str):
        raise ValueError("must be a text or a whole number: a floating-point id has lost digits")
    text = str(value).strip()
    chars_max = spelling.chars_max or ID_CHARS_MAX
    if len(text) > chars_max or not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(f"must be up to {chars_max} printable ASCII characters without spaces")
    return text


def _text(value: Any, spelling: Spelling) -> str | None:
    if type(value) is not int and not isinstance(value, str):
        raise ValueError("must be a text")
    return str(value).strip()[: spelling.chars_max].rstrip() or None


def _html_text(value: Any, spelling: Spelling) -> str | None:
    return _text(html.unescape(value) if isinstance(value, str) else value, spelling)


def _url(value: Any, spelling: Spelling) -> str:
    if not isinstance(value, str) or not value.strip().startswith(("https://", "http://")):
        raise ValueError("must be a URL")
    text = value.strip()
    # Half a URL is none: it is never cut.
    if spelling.chars_max is not None and len(text) > spelling.chars_max:
        raise ValueError(f"must be up to {spelling.chars_max} characters")
    return text


def _money(value: Any, spelling: Spelling) -> str:
    """Read a decimal number in major units that is a text."""
    return _total(value, spelling, _decimal_of_text)


def _major_float(value: Any, spelling: Spelling) -> str:
    """Read a JSON number in major units. It was parsed as written, so 19.99 is 19.99."""

    def number(item: Any) -> Decimal:
        if type(item) is not int and not isinstance(item, Decimal):
            raise ValueError("must be a number")
        return Decimal(item)

    return _total(value, spelling, number)


def _minor_units(value: Any, spelling: Spelling) -> str:
    """Read minor units: a whole number, or a text, which may have decimals (`unit_amount_decimal`)."""

    def number(item: Any) -> Decimal:
        if isinstance(item, str):
            minor = _decimal_of_text(item)
        elif type(item) is int or (isinstance(item, Decimal) and _is_whole(item)):
            minor = Decimal(item)
        else:
            raise ValueError("must be a whole number of minor units")
        _check_exponent(minor)
        return minor.scaleb(-(spelling.minor_digits or 0), _exact)

    return _total(value, spelling, number)


def _total(value: Any, spelling: Spelling, number: Callable[[Any], Decimal]) -> str:
    """Return an amount, or the sum of a list of amounts. None of them may be missing or negative."""
    amounts = []
    for item in value if isinstance(value, list) else [value]:
        if item is None:
            raise ValueError("is missing in a part of the list")
        amount = number(item)
        _check_exponent(amount)
        if amount < 0:
            raise ValueError("must not be negative")
        amounts.append(amount)
    total = amounts[0]
    for amount in amounts[1:]:
        total = _exact.add(total, amount)
    return _amount(total, spelling.round_to)


def _amount(amount: Decimal, round_to: int | None) -> str:
    exponent = amount.as_tuple().exponent
    if round_to is not None and isinstance(exponent, int) and exponent < -round_to:
        step = Decimal(1).scaleb(-round_to)
        amount = _without_zeros(amount.quantize(step, ROUND_HALF_EVEN, _exact), 0)
    text = format(_without_zeros(amount.copy_abs(), _DECIMALS_MAX), "f")
    whole, _, decimals = text.partition(".")
    if len(whole) > _WHOLE_DIGITS_MAX or len(decimals) > _DECIMALS_MAX:
        raise ValueError(f"must have up to {_WHOLE_DIGITS_MAX} digits and {_DECIMALS_MAX} decimals")
    return text


def _without_zeros(amount: Decimal, keep: int) -> Decimal:
    """Return the same amount without zeros at its end beyond the first `keep` decimals."""
    whole, point, decimals = format(amount, "f").partition(".")
    return Decimal(whole + point + decimals[:keep] + decimals[keep:].rstrip("0"))


def _decimal_of_text(value: Any) -> Decimal:
    text = value.strip() if isinstance(value, str) else ""
    if len(text) > _DECIMAL_CHARS_MAX or not _decimal(text):
        raise ValueError("must be a decimal number in a text, such as 74.40")
    return Decimal(text)


def _check_exponent(amount: Decimal) -> None:
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_EXPONENT_MAX or abs(amount.adjusted()) > _EXPONENT_MAX:
        raise ValueError(f"must have up to {_WHOLE_DIGITS_MAX} digits and {_DECIMALS_MAX} decimals")


def _is_whole(number: Decimal) -> bool:
    _check_exponent(number)
    return number == number.to_integral_value()


def _quantity(value: Any, _spelling: Spelling) -> int:
    number = _decimal_of_text(value) if isinstance(value, str) else value
    whole = type(number) is int or (isinstance(number, Decimal) and _is_whole(number))
    if not whole or not 1 <= number <= _QUANTITY_MAX:
        raise ValueError(f"must be a whole number from 1 to {_QUANTITY_MAX}")
    return int(number)


def _currency(value: Any, _spelling: Spelling) -> str:
    code = _code(value, 3)
    if code is None:
        raise ValueError("must be three letters")
    return code


def _country(value: Any, _spelling: Spelling) -> str | None:
    # It only helps to read a phone number: a country spelt out is no reason to refuse an order.
    return _code(value, 2)


def _code(value: Any, letters: int) -> str | None:
    code = value.strip().upper() if isinstance(value, str) else ""
    return code if len(code) == letters and code.isascii() and code.isalpha() else None


def _language(value: Any, _spelling: Spelling) -> str | None:
    found = _locale(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    language, script, region = found.groups()
    return "-".join(
        part for part in (language.lower(), script and script.title(), region and region.upper()) if part
    )


def _time(value: Any, spelling: Spelling) -> datetime:
    """Read a text by RFC 3339, or whole seconds since 1970."""
    if type(value) is int:
        if not 0 < value <= _EPOCH_S_MAX:
            raise ValueError("must be seconds since 1970; is it milliseconds?")
        return datetime.fromtimestamp(value, UTC)
    text = value.strip() if isinstance(value, str) else ""
    try:
        time = msgspec.convert(text, datetime)
        if time.tzinfo is None and spelling.offset:
            time = msgspec.convert(text + spelling.offset, datetime)
    except msgspec.ValidationError:
        raise ValueError("must be a time such as 2026-01-31T09:30:00Z, or seconds since 1970") from None
    if time.tzinfo is None:
        raise ValueError("is a time without an offset; the mapping can say which by `offset`")
    return time


CONVERTERS: Final[dict[str, Converter]] = {
    "id": _id,
    "text": _text,
    "html_text": _html_text,
    "url": _url,
    "money": _money,
    "minor_units": _minor_units,
    "major_float": _major_float,
    "quantity": _quantity,
    "currency": _currency,
    "time": _time,
    "country": _country,
    "locale": _language,
}
MONEY_CONVERTERS: Final = ("money", "minor_units", "major_float")
