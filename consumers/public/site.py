"""The application: routes, and what becomes of everything that is none."""

from collections.abc import Sequence
from typing import Final

import structlog
from litestar import Litestar, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from consumers.web.problem import allowed, problem_body, problem_headers
from consumers.web.requests import AnyRequest
from pipeline.errors import CallbackError, PostorderError

log = structlog.get_logger(__name__)

METHODS: Final = ("GET", "POST")

_BAD_REQUEST, _NOT_ALLOWED, _CRASHED, _UNAVAILABLE = 400, 405, 500, 503
_PASSED = frozenset({"allow", "retry-after"})


def public_site(routes: Sequence[HTTPRouteHandler], *, body_bytes_max: int) -> Litestar:
    """Return the ASGI application of the public listener."""
    return Litestar(
        route_handlers=list(routes),
        request_max_body_size=body_bytes_max,
        exception_handlers={Exception: _answer},
        openapi_config=None,  # nobody outside needs it from here: docs/reference/public-openapi.json
        logging_config=None,
        debug=False,
    )


def _answer(_request: AnyRequest, error: Exception) -> Response[bytes]:
    """Answer an error with its status and nothing of its text."""
    status = _status_of(error)
    headers = problem_headers(status)
    if isinstance(error, HTTPException) and error.headers:
        headers |= {name: value for name, value in error.headers.items() if name in _PASSED}
    if status == _NOT_ALLOWED:
        headers["allow"] = allowed(headers.get("allow", ""), METHODS)
    media_type = headers.pop("content-type")
    return Response(problem_body(status), status_code=status, headers=headers, media_type=media_type)


def _status_of(error: Exception) -> int:
    match error:
        case CallbackError():
            log.info("callback.unreadable", error=str(error))
            return _BAD_REQUEST
        case TimeoutError():
            log.warning("callback.timed_out")
            return _UNAVAILABLE
        case PostorderError():
            log.warning("callback.not_taken", error=str(error))
            return _UNAVAILABLE if error.retryable else _CRASHED
        case HTTPException():
            return error.status_code
    log.error("callback.crashed", exc_info=error)
    return _CRASHED
