"""The application: routes, the guard in front of each, and what becomes of everything that goes wrong."""

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec
import structlog
from litestar import Litestar, Response, get
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.router import Router

from consumers.api.access import Guard
from consumers.api.callers import Access
from consumers.api.routes import needs
from consumers.web.problem import allowed, problem_body, problem_headers
from consumers.web.requests import AnyRequest, Refused
from pipeline.errors import (
    EffectError,
    NoSuchEffectError,
    PostorderError,
    ShardMapError,
    StorageRejectedError,
)

log = structlog.get_logger(__name__)

METHODS: Final = ("DELETE", "GET", "POST", "PUT")

_ABOUT: Final = """Look at an installation of Postorder, and steer it.

Every request carries a token: `Authorization: Bearer …`, made by `postorder api token`. Its role is `read`,
`operate` or `admin`; each includes the one before. Ids in paths are percent-encoded, once: a slash of an id
is `%2F`. Errors have
one shape, RFC 9457."""


def api_site(routes: Sequence[HTTPRouteHandler], guard: Guard, *, body_bytes_max: int) -> Litestar:
    """Return the ASGI application of the API."""
    return Litestar(
        route_handlers=[*routes, _description()],
        guards=[guard],
        request_max_body_size=body_bytes_max,
        exception_handlers={Exception: _answer},
        openapi_config=_openapi(),
        logging_config=None,
        debug=False,
    )


def _description() -> HTTPRouteHandler:
    encoded = b""

    @get("/v1/openapi.json", **needs(Access.READ))
    async def openapi(request: AnyRequest) -> Response[dict[str, Any]]:
        """Return the description of this API."""
        nonlocal encoded
        encoded = encoded or msgspec.json.encode(request.app.openapi_schema.to_schema())
        content: Any = encoded  # made once; bytes go out as they are
        return Response(content, media_type="application/json")

    return openapi


def _openapi() -> OpenAPIConfig:
    bearer = SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")
    return OpenAPIConfig(
        title="Postorder",
        version=version("postorder"),
        description=_ABOUT,
        components=Components(security_schemes={"bearer": bearer}),
        security=[{"bearer": []}],
        use_handler_docstrings=True,
        # The library wants a place to serve it; what is not opened by the guard's word is closed.
        openapi_router=Router("/v1/schema", route_handlers=[], include_in_schema=False),
        render_plugins=[JsonRenderPlugin()],
    )


def _answer(_request: AnyRequest, error: Exception) -> Response[bytes]:
    """Answer an error with its status, and at most a sentence of our own."""
    status, detail = _status_of(error)
    headers = problem_headers(status)
    if isinstance(error, HTTPException) and error.headers:
        headers |= {name: value for name, value in error.headers.items() if name in _PASSED}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = allowed(headers.get("allow", ""), METHODS)
    media_type = headers.pop("content-type")
    return Response(problem_body(status, detail), status_code=status, headers=headers, media_type=media_type)


_PASSED: Final = frozenset({"allow", "retry-after", "www-authenticate"})


def _status_of(error: Exception) -> tuple[int, str]:
    match error:
        case Refused():
            return error.status_code, error.said
        case ValidationException():
            return HTTPStatus.BAD_REQUEST, _not_valid(error)
        case HTTPException():
            return error.status_code, ""
        case PostorderError():
            return _status_of_ours(error)
    log.error("api.crashed", exc_info=error)
    return HTTPStatus.INTERNAL_SERVER_ERROR, ""


def _status_of_ours(error: PostorderError) -> tuple[int, str]:
    match error:
        case NoSuchEffectError():
            return HTTPStatus.NOT_FOUND, "no such message"
        case EffectError():
            return HTTPStatus.CONFLICT, str(error)
        case StorageRejectedError():  # a value that no row can have
            return HTTPStatus.BAD_REQUEST, "a value is not valid"
    log.warning("api.not_answered", error=str(error))
    if error.retryable or isinstance(error, ShardMapError):
        return HTTPStatus.SERVICE_UNAVAILABLE, str(error)  # who asks is known, and is told who is away
    return HTTPStatus.INTERNAL_SERVER_ERROR, ""


def _not_valid(error: ValidationException) -> str:
    """Name the parameters that are not valid: by the names that the route gives them."""
    extra = error.extra if isinstance(error.extra, list) else []
    keys = sorted(
        {str(one["key"]).partition(".")[0] for one in extra if isinstance(one, dict) and "key" in one}
    )
    return f"not valid: {', '.join(keys)}" if keys else "a parameter is missing or not valid"
