"""A request to create a message, checked as Twilio checks it."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

from multidict import MultiMapping
from yarl import URL

from stack.twilio.errors import RequestRefused
from stack.twilio.messages import Message
from stack.twilio.sms_segments import segment_count, utf16_length

BODY_UNITS_MAX: Final = 1600
CALLBACK_CHARS_MAX: Final = 4000
SCHEDULE_AHEAD_S: Final = (15 * 60, 35 * 86_400)

# Twilio's test credentials answer these numbers with these codes; so do we, with any credentials.
MAGIC_TO: Final[Mapping[str, int]] = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
MAGIC_FROM: Final[Mapping[str, int]] = {
    "+15005550001": 21212,
    "+15005550007": 21606,
    "+15005550008": 21611,
}

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_CHANNEL_ADDRESS: Final = re.compile(r"[a-z]{1,20}:[!-~]{1,100}")
_SHORT_CODE: Final = re.compile(r"[0-9]{3,8}")
_SENDER_NAME: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 +&_-]{1,11}")
_SERVICE_SID: Final = re.compile(r"MG[0-9a-fA-F]{32}")
_CALLBACK_URL: Final = re.compile(r"https?://[!-~]+")


def parse_form(body: bytes) -> MultiMapping[str]:
    """Return the fields of an `application/x-www-form-urlencoded` body."""
    # yarl's C parser takes a fifth of the time urllib.parse needs, and this is in every create.
    return URL.build(query_string=body.decode("utf-8", "replace"), encoded=True).query


def read_message(form: MultiMapping[str], now: float) -> Message:
    """Return the message a form asks for; raises `RequestRefused` as Twilio would."""
    to, sender = _addresses(form)
    text = form.get("Body", "")
    media_count = len(form.getall("MediaUrl", []))
    if not text and not media_count and "ContentSid" not in form:
        raise RequestRefused(21602)
    if utf16_length(text) > BODY_UNITS_MAX:
        raise RequestRefused(21617)
    service_sid = form.get("MessagingServiceSid") or None
    if service_sid is not None and not _SERVICE_SID.fullmatch(service_sid):
        raise RequestRefused(21701, service_sid)
    callback_url = form.get("StatusCallback") or None
    if callback_url is not None and not (
        len(callback_url) <= CALLBACK_CHARS_MAX and _CALLBACK_URL.fullmatch(callback_url)
    ):
        raise RequestRefused(21609, callback_url[:100])
    send_at = None if service_sid is None else _send_time(form, now)
    initial: Literal["queued", "accepted", "scheduled"] = "queued" if service_sid is None else "accepted"
    return Message(
        to=to,
        sender=sender,
        body=text,
        service_sid=service_sid,
        media_count=media_count,
        segments=segment_count(text),
        callback_url=callback_url,
        initial=initial if send_at is None else "scheduled",
        send_at=send_at,
    )


def _addresses(form: MultiMapping[str]) -> tuple[str, str | None]:
    to, sender = form.get("To", ""), form.get("From") or None
    if not to:
        raise RequestRefused(21604)
    if to in MAGIC_TO:
        raise RequestRefused(MAGIC_TO[to], to)
    if sender is None:
        if not form.get("MessagingServiceSid"):
            raise RequestRefused(21603)
    elif sender in MAGIC_FROM:
        raise RequestRefused(MAGIC_FROM[sender], sender)
    if not (_E164.fullmatch(to) or _CHANNEL_ADDRESS.fullmatch(to)):
        raise RequestRefused(21211, to[:100])
    if sender is not None and not any(
        form_of.fullmatch(sender) for form_of in (_E164, _SHORT_CODE, _SENDER_NAME, _CHANNEL_ADDRESS)
    ):
        raise RequestRefused(21212, sender[:100])
    return to, sender


def _send_time(form: MultiMapping[str], now: float) -> float | None:
    # Without a Messaging Service, Twilio ignores the schedule; the caller sees to that.
    if form.get("ScheduleType") != "fixed":
        return None
    try:
        at = datetime.fromisoformat(form.get("SendAt", ""))
    except ValueError as error:
        raise RequestRefused(35114) from error
    earliest, latest = SCHEDULE_AHEAD_S
    if at.tzinfo is None or not earliest <= at.timestamp() - now <= latest:
        raise RequestRefused(35114)
    return at.timestamp()
