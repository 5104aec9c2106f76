"""A mail taken apart for whoever asks. Lenient: a malformed mail is shown as far as it can be read."""

import hashlib
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any, Final

TEXT_CHARS_MAX: Final = 100_000
DEPTH_MAX: Final = 20


def view(raw: bytes) -> dict[str, Any]:
    """Return subject, headers and part tree as JSON-ready data."""
    defects = set()
    # The default policy's header objects raise on some malformed headers; the old one keeps plain text.
    try:
        message = message_from_bytes(raw)
    except RecursionError:
        message = BytesHeaderParser().parsebytes(raw)
        defects.add("NestedTooDeeply")
    return {
        "subject": _decoded(message.get("Subject")),
        "headers": [[name, _text(value)] for name, value in message.items()],
        "defects": sorted(defects | {type(defect).__name__ for defect in message.defects}),
        "bare_newlines": raw.count(b"\n") != raw.count(b"\r\n") or raw.count(b"\r") != raw.count(b"\r\n"),
        "part": _part(message, DEPTH_MAX),
    }


def _part(message: Message, depth: int) -> dict[str, Any]:
    part: dict[str, Any] = {
        "content_type": message.get_content_type(),
        "disposition": message.get_content_disposition(),
        "filename": _filename(message),
        "charset": message.get_content_charset(),
    }
    payload = message.get_payload()
    if isinstance(payload, list):
        children = [child for child in payload if isinstance(child, Message)]
        return part | {"parts": [_part(child, depth - 1) for child in children] if depth else []}
    content = message.get_payload(decode=True)
    assert isinstance(content, bytes)
    part |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if message.get_content_maintype() == "text":
        part["text"] = _to_text(content, part["charset"])[:TEXT_CHARS_MAX]
    return part


def _to_text(content: bytes, charset: str | None) -> str:
    try:
        return content.decode(charset or "utf-8", "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def _filename(message: Message) -> str | None:
    name = message.get_filename()
    return None if name is None else _decoded(name)


def _decoded(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return _text(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return _text(value)


def _text(value: Any) -> str:
    # Raw 8-bit octets arrive as surrogates, which JSON cannot carry.
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
