"""The one shape of every error answer: RFC 9457, with nothing in it but what the status says."""

from http import HTTPStatus
from typing import Final

import msgspec

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = "1"


def problem_body(status: int) -> bytes:
    """Return the body of an error answer."""
    return _BODIES[status] if status in _BODIES else _body(HTTPStatus.INTERNAL_SERVER_ERROR)


def problem_headers(status: int) -> dict[str, str]:
    """Return the headers that go with an error answer."""
    headers = {"content-type": MEDIA_TYPE}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = RETRY_AFTER_S
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["connection"] = "close"  # what is left of the body is not read
    return headers


def _body(status: HTTPStatus) -> bytes:
    return msgspec.json.encode({"type": "about:blank", "title": status.phrase, "status": status.value})


_BODIES: Final = {
    status.value: _body(status) for status in HTTPStatus if status.value >= HTTPStatus.BAD_REQUEST
}
