"""The one shape of every error answer: RFC 9457, with nothing in it but what the status says.

A `detail` is one of our own sentences; it never repeats what was sent.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = "1"
_LATER: Final = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong with a request, or why it is not answered. `detail`: when there is more to say."""

    type: str
    title: str
    status: int
    detail: str = ""


def problem_body(status: int, detail: str = "") -> bytes:
    """Return the body of an error answer."""
    if status not in _BODIES:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    return _body(HTTPStatus(status), detail) if detail else _BODIES[status]


def problem_headers(status: int) -> dict[str, str]:
    """Return the headers that go with an error answer."""
    headers = {"content-type": MEDIA_TYPE}
    if status in _LATER:
        headers["retry-after"] = RETRY_AFTER_S
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["connection"] = "close"  # what is left of the body is not read
    return headers


def allowed(allow: str, methods: Sequence[str]) -> str:
    """Return which of a listener's methods are among those that a library says a path has."""
    named = {name.strip() for name in allow.split(",")}
    return ", ".join(name for name in methods if name in named)


async def send_problem(status: int, send: Any, headers: Mapping[str, str] | None = None) -> None:
    """Answer a request with an error from outside the application. `headers`: over those that go with it."""
    body = problem_body(status)
    every = {**problem_headers(status), "content-length": str(len(body)), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in every.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _body(status: HTTPStatus, detail: str = "") -> bytes:
    problem = Problem(type="about:blank", title=status.phrase, status=status.value, detail=detail)
    return msgspec.json.encode(problem)


_BODIES: Final = {
    status.value: _body(status) for status in HTTPStatus if status.value >= HTTPStatus.BAD_REQUEST
}
