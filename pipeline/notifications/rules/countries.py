"""Which countries SMS may go to."""

from collections.abc import Collection
from contextlib import suppress

from phonenumbers.phonenumberutil import COUNTRY_CODE_TO_REGION_CODE

from pipeline.errors import RecipientRefusedError
from pipeline.notifications.sms.phone import read_number

_CODE_DIGITS_MAX = 3


def calling_code(number: str) -> str:
    """Return the country calling code of a number in E.164, for example `49`; empty for none."""
    for digits in range(1, _CODE_DIGITS_MAX + 1):
        code = number[1 : 1 + digits]
        if code.isascii() and code.isdecimal() and int(code) in COUNTRY_CODE_TO_REGION_CODE:
            return code
    return ""


class Countries:
    """The countries that SMS may go to, by their ISO codes; none given: all."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    def check(self, number: str) -> None:
        """Raise RecipientRefusedError with code `country` for a number elsewhere.

        Most calling codes are one country's, or all of their countries are allowed or none is. Only for the
        rest the number's plan is looked up.
        """
        if self._allowed and not self._is_allowed(number):
            raise RecipientRefusedError("country", "SMS do not go to this country")

    def _is_allowed(self, number: str) -> bool:
        code = calling_code(number)
        regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code), ()) if code else ()
        if self._allowed.issuperset(regions):
            return bool(regions)
        return not self._allowed.isdisjoint(regions) and _region(number) in self._allowed


def _region(number: str) -> str:
    with suppress(RecipientRefusedError):
        return read_number(number, None).region
    return ""
