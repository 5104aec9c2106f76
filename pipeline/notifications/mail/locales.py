"""In which language a message is, and how it writes amounts, numbers and dates."""

import re
from collections.abc import Callable, Iterable
from datetime import date
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.lists import format_list
from babel.numbers import get_currency_precision, get_currency_symbol

_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,4}").fullmatch
_CHARS_MAX = 35
_LAST_RESORT = "en"
_NO_BREAK_SPACE = "\xa0"
_GSM_SIGNS = frozenset("$£¥€")
_CURRENCIES_MAX = 64
_CACHED_MAX = 1024  # of each kind; what customers write as their locale is not bounded


class Style:
    """How one locale writes amounts and dates, by the CLDR's data that Babel ships.

    `language` names the templates, `text_direction` is `ltr` or `rtl`.
    """

    def __init__(self, language: str, locale: Locale) -> None:
        self.language = language
        self.locale = locale
        self.text_direction = locale.text_direction
        self.date = lru_cache(_CACHED_MAX)(self._date)
        self._writer = lru_cache(_CURRENCIES_MAX)(self._new_writer)
        self._plain_writer = lru_cache(_CURRENCIES_MAX)(self._new_plain_writer)

    def __repr__(self) -> str:
        return f"Style({self.language}, {self.locale})"

    def money(self, amount: str, currency: str) -> str:
        """Write a decimal such as 74.4000: all digits that count, and as many decimals as is usual."""
        return self._writer(currency)(amount)

    def plain_money(self, amount: str, currency: str) -> str:
        """Write an amount for SMS: a sign that is in GSM 03.38, else the currency's code."""
        return self._plain_writer(currency)(amount)

    def listed(self, items: list[str]) -> str:
        """Write several as a list: "1, 2 and 3"; none is empty."""
        return format_list(items, locale=self.locale) if len(items) > 1 else "".join(items)

    def _new_writer(self, currency: str) -> Callable[[str], str]:
        return _money_writer(self.locale, currency, get_currency_symbol(currency, self.locale))

    def _new_plain_writer(self, currency: str) -> Callable[[str], str]:
        symbol = get_currency_symbol(currency, self.locale)
        return _money_writer(self.locale, currency, symbol if symbol in _GSM_SIGNS else currency)

    def _date(self, day: date) -> str:
        return format_date(day, "long", locale=self.locale)


@lru_cache(_CACHED_MAX)
def plural_form(language: str, count: int) -> str:
    """Return the CLDR's plural category of a count in a language: zero, one, two, few, many or other."""
    locale = _known_locale(language, language) or Locale(_LAST_RESORT)
    return locale.plural_form(count)


def _money_writer(locale: Locale, currency: str, symbol: str) -> Callable[[str], str]:
    """Return a function that writes amounts. Babel's own parses its pattern for each: 50 times slower."""
    pattern = locale.currency_formats["standard"]
    symbols = locale.number_symbols["latn"]
    point, group = (
        symbols.get("currencyDecimal", symbols["decimal"]),
        symbols.get("currencyGroup", symbols["group"]),
    )
    primary, secondary = pattern.grouping
    fewest = get_currency_precision(currency)
    before, after = (part.replace("¤", symbol) for part in (pattern.prefix[0], pattern.suffix[0]))
    # As the CLDR has it (alphaNextToNumber): letters do not stick to digits.
    before += _NO_BREAK_SPACE if before[-1:].isalpha() else ""
    after = (_NO_BREAK_SPACE if after[:1].isalpha() else "") + after

    def write(amount: str) -> str:
        whole, _, fraction = amount.partition(".")
        fraction = fraction.rstrip("0").ljust(fewest, "0")
        if len(whole) > primary:
            whole = _grouped(whole, group, primary, secondary)
        return f"{before}{whole}{point}{fraction}{after}" if fraction else f"{before}{whole}{after}"

    return write


def _grouped(whole: str, group: str, primary: int, secondary: int) -> str:
    groups = [whole[-primary:]]
    rest = whole[:-primary]
    while rest:
        groups.append(rest[-secondary:])
        rest = rest[:-secondary]
    return group.join(reversed(groups))


class Locales:
    """Finds the style for what a customer's locale says, among the languages that have templates.

    de-AT is looked for as de-AT, de, the default, and English, in this order. What is no language tag
    counts as none; no name of a file is ever made of it.
    """

    def __init__(self, languages: Iterable[str], default: str) -> None:
        self._languages = {_key(language): language for language in languages}
        self.default = default
        self._styles: dict[tuple[str, str], Style] = {}
        self.find = lru_cache(_CACHED_MAX)(self._find)

    @property
    def has_default(self) -> bool:
        """Whether the default locale has templates, in its own language."""
        return self.has(self.default)

    def has(self, tag: str) -> bool:
        """Tell whether a locale has templates in its own language."""
        return any(key in self._languages for key in _prefixes(tag))

    def chain(self, wanted: str | None) -> list[str]:
        """Return the languages that have templates, best first."""
        tags = [
            tag
            for tag in (wanted, self.default, _LAST_RESORT)
            if tag and len(tag) <= _CHARS_MAX and _TAG(tag)
        ]
        found = (self._languages.get(key) for tag in tags for key in _prefixes(tag))
        return list(dict.fromkeys(language for language in found if language))

    def _find(self, wanted: str | None) -> Style:
        language = self.chain(wanted)[0]
        # Amounts are written as where the customer is, if that goes with the language of the words.
        locale = _known_locale(wanted, language) or _known_locale(language, language) or Locale(_LAST_RESORT)
        key = (language, str(locale))
        if key not in self._styles:
            self._styles[key] = Style(language, locale)
        return self._styles[key]


def _key(tag: str) -> str:
    return tag.replace("_", "-").lower()


def _prefixes(tag: str) -> Iterable[str]:
    parts = _key(tag).split("-")
    return ("-".join(parts[:length]) for length in range(len(parts), 0, -1))


def _known_locale(tag: str | None, language: str) -> Locale | None:
    if (
        not tag
        or len(tag) > _CHARS_MAX
        or not _TAG(tag)
        or _key(tag).split("-")[0] != _key(language).split("-")[0]
    ):
        return None
    for prefix in _prefixes(tag):
        try:
            return Locale.parse(prefix, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return None
