"""Loaded by schemathesis itself: how bodies are written down that it has no way for."""

from typing import Any

import schemathesis


@schemathesis.serializer("message/rfc822", "multipart/report")
def mail(_context: Any, value: Any) -> bytes:
    """Write a mail, or whatever stands for one."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
