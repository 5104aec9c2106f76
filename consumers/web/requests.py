"""What routes ask of a request: its media type, its target to the byte, and that storage answers in time."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from litestar import Request
from litestar.exceptions import HTTPException

T = TypeVar("T")

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
MULTIPART: Final = "multipart/form-data"
TEXT: Final = "text/plain"
MESSAGE: Final = "message/rfc822"

AnyRequest = Request[Any, Any, Any]


class Refused(HTTPException):
    """Ends a request with a status, and at most a sentence of our own that repeats nothing of the request."""

    def __init__(self, status: int, said: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(status_code=status, headers=headers)
        self.said = said


def media_type_of(request: AnyRequest, *allowed: str) -> str:
    """Return the media type of a request's body; 415 for others, and for texts in anything but UTF-8."""
    media_type, *parameters = request.headers.get("content-type", "").split(";")
    media_type = media_type.strip().lower()
    charsets = {
        value.strip().strip('"').lower()
        for name, _, value in (parameter.partition("=") for parameter in parameters)
        if name.strip().lower() == "charset"
    }
    if media_type not in allowed or not charsets <= {"utf-8", "utf8"}:
        raise Refused(415)
    return media_type


def target_of(request: AnyRequest) -> str:
    """Return path and query as they were requested, to the byte."""
    path, query = request.scope["raw_path"], request.scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


class Patience:
    """How long the answer to a request may take; then it is 503."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def wait_for(self, work: Awaitable[T]) -> T:
        """Return what the work returns. Raises TimeoutError."""
        async with asyncio.timeout(self._timeout_s):
            return await work
