"""A mail as bytes, written directly: `email.message` takes 2.9 ms for the same mail, this 0.06 ms.

What goes in is either ours or brought to a form that cannot end a header, a part or the message: header
values are printable and have no encoded word of their own, bodies are quoted-printable, attachments base64.
A test reads the result back with the standard library and compares headers, recipients and parts.
"""

from base64 import b64encode, encodebytes
from binascii import b2a_qp
from datetime import datetime
from email.utils import format_datetime
from string import ascii_letters, digits

from pipeline.notifications.notification import Attachment, Email

_SUBJECT_CHARS_MAX = 200
_FILENAME_CHARS_MAX = 100
_FILENAME_CHARACTERS = frozenset(ascii_letters + digits + "-_. ")
_WORD_BYTES_MAX = 42  # of UTF-8 in one encoded word, which may have 75 characters (RFC 2047)


def render_mail(message: Email, *, sender: str, sender_name: str, message_id: str, date: datetime) -> bytes:
    """Return a mail of text and HTML as alternatives, and attachments if it has any."""
    # "=_" can stand neither in quoted-printable nor in base64, so no content can hold the boundary.
    inner, outer = f"=_alt_{message.effect_id}", f"=_mix_{message.effect_id}"
    body = _multipart(
        "alternative", inner, [_text_part("plain", message.text), _text_part("html", message.html)]
    )
    if message.attachments:
        body = _multipart("mixed", outer, [body, *map(_attachment_part, message.attachments)])
    headers = (
        f"From: {_display_name(sender_name)} <{sender}>\r\n"
        f"To: {header_text(message.to)}\r\n"
        f"Subject: {header_text(message.subject[:_SUBJECT_CHARS_MAX])}\r\n"
        f"Message-ID: {message_id}\r\n"
        f"Date: {format_datetime(date)}\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\n"
    )
    return headers.encode("ascii") + body


def header_text(text: str) -> str:
    """Return a text as a header's value: ASCII as it is, else as encoded words; never more than one header.

    CPython before 3.11.10 decodes an encoded word inside a value when it folds it, and other software does
    so when it shows it; a line break hidden in one becomes a header of its own (CVE-2024-6923). Breaking
    up `=?` defuses it.
    """
    clean = "".join(c for c in text if c.isprintable()).replace("=?", "= ?")
    if clean.isascii():
        return clean
    return "\r\n ".join(f"=?utf-8?b?{b64encode(word).decode()}?=" for word in _words(clean))


def _words(text: str) -> list[bytes]:
    """Cut a text into pieces of UTF-8 that end between characters."""
    words = [b""]
    for character in text:
        encoded = character.encode()
        if len(words[-1]) + len(encoded) > _WORD_BYTES_MAX:
            words.append(b"")
        words[-1] += encoded
    return words


def _display_name(name: str) -> str:
    clean = header_text(name)
    if clean.startswith("=?"):
        return clean  # encoded words stand without quotes; a name of its own cannot begin like this
    escaped = clean.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _multipart(subtype: str, boundary: str, parts: list[bytes]) -> bytes:
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode("ascii")
    line = f"--{boundary}".encode("ascii")
    return head + b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


def _text_part(subtype: str, text: str) -> bytes:
    content = b2a_qp("\r\n".join(text.splitlines()).encode() + b"\r\n", istext=True)
    head = (
        f'Content-Type: text/{subtype}; charset="utf-8"\r\n'
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    return head.encode("ascii") + content


def _attachment_part(attachment: Attachment) -> bytes:
    filename = "".join(
        c if c in _FILENAME_CHARACTERS else "_" for c in attachment.filename[:_FILENAME_CHARS_MAX]
    )
    head = (
        f"Content-Type: {attachment.media_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{filename}"\r\n\r\n'
    )
    return head.encode("ascii") + encodebytes(attachment.content).replace(b"\n", b"\r\n")
