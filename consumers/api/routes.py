"""What every route of the API declares: who may use it, and how it can fail."""

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from litestar.openapi.datastructures import ResponseSpec

from consumers.api.callers import Access
from consumers.web.problem import MEDIA_TYPE, Problem
from consumers.web.requests import Refused
from pipeline.events import ID_CHARS_MAX

_ALWAYS: Final = (400, 401, 403, 429, 503)
_NOT_FOUND: Final = 404
# Anchored so that Python and ECMAScript, in which the description is read, mean the same: one line.
PRINTABLE: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}$(?!\n)"
VISIBLE: Final = r"^[!-~]{1,200}$(?!\n)"


def needs(access: Access, *failures: int) -> dict[str, Any]:
    """Return the arguments of a route that needs a role. `failures`: statuses beside those any route has."""
    return {
        "opt": {"access": access},
        "security": [{"bearer": [access.value]}],
        "responses": _specs(*_ALWAYS, *failures),
    }


def _specs(*statuses: int) -> dict[int, ResponseSpec]:
    return {
        status: ResponseSpec(
            Problem,
            generate_examples=False,
            description=HTTPStatus(status).phrase,
            media_type=MEDIA_TYPE,
        )
        for status in sorted(statuses)
    }


def named(segment: str, what: str) -> str:
    """Return the id that a segment of a path stands for. Raises Refused for what no id can be: 404."""
    try:
        name = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise no_such(what) from None
    if not 0 < len(name) <= ID_CHARS_MAX or "\0" in name:
        raise no_such(what)
    return name


def no_such(what: str) -> Refused:
    """Return the refusal for something that is not there."""
    return Refused(_NOT_FOUND, f"no such {what}")
