"""Whether a message in a provider's list is the one that is looked for."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

import msgspec

# How far a provider's clock may be behind ours, and its seconds are whole ones.
CLOCK_SKEW: Final = timedelta(seconds=5)
# The same text, but older than that: our clock or theirs is wrong by more, or it is another message.
_DOUBTFUL_AGE: Final = timedelta(days=1)
_TRIAL: Final = "Sent from your Twilio trial account - "
_NUMBERS: Final = re.compile(r"[^\W_]*\d[^\W_]*")


class Likeness(StrEnum):
    """What a listed message is to the one looked for; the middle two leave it open, with these codes."""

    SAME = "same"
    AMBIGUOUS = "ambiguous"
    REDACTED = "redacted"
    OTHER = "other"


class Listed(msgspec.Struct, kw_only=True):
    """A message as Twilio lists it. Dates are of RFC 2822."""

    sid: str
    date_created: str
    direction: str
    status: str | None = None
    to: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")
    messaging_service_sid: str | None = None
    body: str | None = None


def judge(listed: Listed, body: str, since: datetime) -> Likeness:
    """Compare one message to the same number from the same sender.

    `since`: when the first try may have begun. White space does not count, nor does what a trial account
    puts before each text. A text that differs may be ours all the same, when a template was changed between
    the try and the inquiry: so it is other only if it names other numbers (its order's, its total).
    """
    if not listed.direction.startswith("outbound"):
        return Likeness.OTHER
    created = _moment(listed.date_created)
    if created is None:
        return Likeness.AMBIGUOUS
    text = " ".join((listed.body or "").removeprefix(_TRIAL).split())
    wanted = " ".join(body.split())
    if created < since - CLOCK_SKEW:
        is_doubtful = text == wanted and created >= since - _DOUBTFUL_AGE
        return Likeness.AMBIGUOUS if is_doubtful else Likeness.OTHER
    if text == wanted:
        return Likeness.SAME
    if not text:
        return Likeness.REDACTED
    numbers, others = set(_NUMBERS.findall(wanted)), set(_NUMBERS.findall(text))
    return Likeness.OTHER if numbers and others and not numbers & others else Likeness.AMBIGUOUS


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
