"""The messages themselves, ready for a provider."""

import msgspec


class Sms(msgspec.Struct, frozen=True, kw_only=True):
    """One SMS. `to` is E.164. `effect_id` is 32 hexadecimal digits."""

    effect_id: str
    to: str
    body: str


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a mail."""

    filename: str
    media_type: str
    content: bytes


class Email(msgspec.Struct, frozen=True, kw_only=True):
    """One mail to one recipient."""

    effect_id: str
    to: str
    subject: str
    text: str
    html: str
    attachments: tuple[Attachment, ...] = ()
