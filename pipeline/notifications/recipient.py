"""Whether a person wants a message, and where it can go: phone numbers and addresses as upstream has them."""

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from phonenumbers import NumberParseException, PhoneNumberFormat

from pipeline.errors import RecipientRefusedError
from pipeline.storage.customers import Person
from pipeline.storage.outbox import Channel

# What people type: digits, and the usual separators. Letters, extensions and other scripts are refused,
# although the library would make something of them.
_PHONE_CHARACTERS = frozenset("+0123456789 -().")
_PHONE_CHARS_MAX = 30


def check_consent(person: Person, channel: Channel) -> None:
    """Raise RecipientRefusedError with code `opted_out` when the person wants nothing on this channel."""
    if channel in person.opted_out:
        raise RecipientRefusedError("opted_out", "the customer wants nothing on this channel")


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


def email_address(raw: str | None) -> str:
    """Return an address whose domain is in ASCII. Nothing is looked up in DNS.

    Raises RecipientRefusedError with code `no_email` or `invalid_email`.
    """
    if not raw or not raw.strip():
        raise RecipientRefusedError("no_email", "the order has no e-mail address")
    try:
        valid = validate_email(raw.strip(), check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise RecipientRefusedError("invalid_email", "not an e-mail address") from error
    if valid.ascii_email is None:
        raise RecipientRefusedError("invalid_email", "the local part is not ASCII")
    if "=?" in valid.ascii_email:
        # Allowed by the letter, but mail software would decode it as an encoded word.
        raise RecipientRefusedError("invalid_email", "the local part looks like an encoded word")
    return valid.ascii_email
