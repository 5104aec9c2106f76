"""Phone numbers as upstream has them, and which of them an SMS may go to."""

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat

from pipeline.errors import RecipientRefusedError

# What people type: digits, and the usual separators. Letters, extensions and other scripts are refused,
# although the library would make something of them.
_PHONE_CHARACTERS = frozenset("+0123456789 -().")
_PHONE_CHARS_MAX = 30


def phone_number(raw: str | None, country: str | None) -> str:
    """Return a phone number in E.164. `country` is a hint for numbers without a country code.

    Raises RecipientRefusedError with code `no_phone` or `invalid_phone`.
    """
    if not raw or not raw.strip():
        raise RecipientRefusedError("no_phone", "the order has no phone number")
    text = raw.strip()
    if len(text) > _PHONE_CHARS_MAX or not _PHONE_CHARACTERS.issuperset(text) or "+" in text[1:]:
        raise RecipientRefusedError("invalid_phone", "not a phone number")
    try:
        number = phonenumbers.parse(text, country)
    except NumberParseException as error:
        raise RecipientRefusedError("invalid_phone", "not a phone number") from error
    # Possible, not valid: valid depends on tables that are always behind the numbering plans.
    if not phonenumbers.is_possible_number(number):
        raise RecipientRefusedError("invalid_phone", "no such number in its country's plan")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)
