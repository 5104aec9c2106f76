"""Made-up contact data for customers who are only numbers. The same number is always the same person."""

import random
from enum import StrEnum
from typing import NamedTuple

_FIRST = ("Ada", "Ben", "Chloé", "Dmitri", "Elif", "Farah", "Giulia", "Hana", "Jun", "Kofi", "Lena", "Priya")
_LAST = ("Abel", "Brandt", "Costa", "Dubois", "Ferrari", "García", "Huang", "Ivanova", "Kaya", "Müller")


class Reach(StrEnum):
    """How a made-up customer can be reached; all but `both` are there to be handled."""

    BOTH = "both"
    OPTED_OUT = "opted_out"
    NOT_A_MOBILE = "not_a_mobile"
    BAD_PHONE = "bad_phone"
    NO_PHONE = "no_phone"
    BAD_EMAIL = "bad_email"
    NO_EMAIL = "no_email"

    @property
    def gets_sms(self) -> bool:
        """Whether an SMS can be accepted for them."""
        return self in (Reach.BOTH, Reach.BAD_EMAIL, Reach.NO_EMAIL)

    @property
    def gets_email(self) -> bool:
        """Whether a mail can be accepted for them."""
        return self not in (Reach.BAD_EMAIL, Reach.NO_EMAIL)


class Contact(NamedTuple):
    """A customer of the demo."""

    reach: Reach
    name: str
    email: str | None
    phone: str | None


# Twilio's own test numbers: a recipient who sent STOP (21610), and one that is no mobile (21614).
_OPTED_OUT_NUMBER = "+15005550004"
_NOT_A_MOBILE_NUMBER = "+15005550009"
_SHARE_UNREACHABLE = 0.06


def contact_of(customer: int) -> Contact:
    """Return the contact data of a customer number."""
    rng = random.Random(customer)
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    reach = Reach.BOTH
    if rng.random() < _SHARE_UNREACHABLE:
        reach = rng.choice([each for each in Reach if each is not Reach.BOTH])
    return Contact(reach, f"{first} {last}", _email(reach, customer), _phone(reach, customer))


def _email(reach: Reach, customer: int) -> str | None:
    match reach:
        case Reach.NO_EMAIL:
            return None
        case Reach.BAD_EMAIL:
            return f"customer{customer}[at]example.com"
    return f"customer{customer}@example.com"


def _phone(reach: Reach, customer: int) -> str | None:
    match reach:
        case Reach.NO_PHONE:
            return None
        case Reach.BAD_PHONE:
            return "555-CALL-ME"
        case Reach.OPTED_OUT:
            return _OPTED_OUT_NUMBER
        case Reach.NOT_A_MOBILE:
            return _NOT_A_MOBILE_NUMBER
    return f"+1415{2_000_000 + customer:07d}"
