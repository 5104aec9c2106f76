"""A reply of Twilio's API, whoever fetched it, and what it says of a message that was to be sent."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import msgspec

from pipeline.errors import OutcomeUnknownError
from pipeline.notifications.provider import Accepted
from pipeline.notifications.sms.error_table import ErrorTable

# A created message takes about 1 kB, a page of a thousand about 1 MB.
REPLY_BYTES_MAX: Final = 4 * 1024 * 1024
RETRY_AFTER_S_MAX: Final = 3600.0
_OK, _REDIRECT = 200, 300
_SID: Final = re.compile(r"(?:SM|MM)[0-9a-fA-F]{32}", re.ASCII)


class Reply(NamedTuple):
    """Status, body and two headers, as they came; None: there was no such header."""

    status: int
    body: bytes
    retry_after: str | None = None
    date: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx. A redirect is not followed: credentials would go with it."""
        return _OK <= self.status < _REDIRECT


class _Created(msgspec.Struct):
    sid: str
    to: str | None = None


class _Refused(msgspec.Struct):
    code: int | str | None = None


_decode_created = msgspec.json.Decoder(_Created).decode
_decode_refused = msgspec.json.Decoder(_Refused).decode


def read_created(reply: Reply, table: ErrorTable, *, to: str, provider: str) -> Accepted:
    """Return the receipt in a reply to a create. Raises the ProviderError that the reply amounts to.

    A success that is not what the API promises is an unknown outcome: the message may have been taken.
    """
    if not reply.is_success:
        raise table.refusal(reply.status, _code(reply.body), retry_after_s(reply))
    try:
        created = _decode_created(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutcomeUnknownError("bad_reply", f"HTTP {reply.status} without a message") from error
    if not _SID.fullmatch(created.sid):
        raise OutcomeUnknownError("bad_reply", "a sid of another form")
    if created.to is not None and created.to != to:
        raise OutcomeUnknownError("bad_reply", "the reply is about another recipient")
    return Accepted(provider, created.sid)


def error_code(reply: Reply) -> str:
    """Return Twilio's code of a refusal, or its HTTP status."""
    return str(_code(reply.body) or reply.status)


def retry_after_s(reply: Reply) -> float | None:
    """Return how long the reply asks to wait, at most an hour; None: it does not, or makes no sense.

    A date counts from the reply's own date, so that nobody's clock has to be right.
    """
    text = (reply.retry_after or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        asked, now = _moment(text), _moment(reply.date or "")
        seconds = (asked - now).total_seconds() if asked and now else 0.0
    return min(seconds, RETRY_AFTER_S_MAX) if seconds > 0 else None


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _code(body: bytes) -> int | None:
    """Return the code in an error's body; None: it is not one of the API's."""
    try:
        return int(_decode_refused(body).code or 0) or None
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
