"""The messages themselves, ready for a provider."""

from datetime import datetime
from math import inf

import msgspec


class Sms(msgspec.Struct, frozen=True, kw_only=True):
    """One SMS. `to` is E.164. `effect_id` is 32 hexadecimal digits.

    `valid_s`: of use for so long, None: the provider's own limit. `callback_url`: where the provider may
    tell what became of it. `send_before`: on the monotonic clock; no call begins later (LeaseEndedError).
    """

    effect_id: str
    to: str
    body: str
    valid_s: int | None = None
    callback_url: str | None = None
    send_before: float = inf


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a mail. `invoice_id`: whose document it is; empty: none's, as in a preview."""

    filename: str
    media_type: str
    content: bytes
    invoice_id: str = ""


class Email(msgspec.Struct, frozen=True, kw_only=True):
    """One mail to one recipient. `unsubscribe_url`: for one click. `send_before`: as in Sms.

    `body`: text and HTML as a MIME entity, from its Content-Type on; empty: made of `text` and `html`.
    `date`: of the message it is about, so that a mail sent again is the same bytes; None: now.
    """

    effect_id: str
    to: str
    subject: str
    text: str = ""
    html: str = ""
    body: bytes = b""
    date: datetime | None = None
    attachments: tuple[Attachment, ...] = ()
    locale: str = "en"
    unsubscribe_url: str | None = None
    send_before: float = inf
