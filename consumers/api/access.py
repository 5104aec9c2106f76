"""Who may do what: the check that every route passes. A route that says nothing about it is closed."""

from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
import structlog
from litestar.connection import ASGIConnection, Request
from litestar.handlers.base import BaseRouteHandler
from litestar.params import ParameterKwarg
from litestar.typing import FieldDefinition

from consumers.api.callers import Access, Caller
from consumers.api.tokens import TokenReader
from consumers.web.rate_limits import RateLimits
from consumers.web.requests import JSON, AnyRequest, Refused, media_type_of
from pipeline.errors import TokenError

log = structlog.get_logger(__name__)

AnyConnection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[AnyConnection, BaseRouteHandler], Awaitable[None]]

OPEN: Final = "open"
"""In place of a role: for what holds no data, the console's own files."""

_BEARER: Final = "bearer "
_RESERVED: Final = frozenset({"request", "data"})
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _TOO_MANY = 400, 401, 403, 429


def caller_of(request: AnyRequest) -> Caller:
    """Return who asks: the guard has seen to it that somebody does."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def guard_of(tokens: TokenReader, limits: RateLimits) -> Guard:
    """Return the guard of the whole application. `limits`: of each subject."""

    async def guard(connection: AnyConnection, handler: BaseRouteHandler) -> None:
        needed = handler.opt.get("access")
        if needed == OPEN:
            return
        caller = _caller(connection, tokens)
        wait_s = limits.take(caller.subject)
        if wait_s:
            log.info("api.throttled", by="caller", caller=caller.subject)
            raise Refused(_TOO_MANY, headers={"retry-after": str(ceil(wait_s))})
        if not isinstance(needed, Access) or not caller.access.covers(needed):
            log.info("api.forbidden", caller=caller.subject, role=caller.access, needed=needed)
            raise Refused(_FORBIDDEN, f"needs the role {needed}" if isinstance(needed, Access) else "")
        _check_query(connection, handler)
        await _check_body(connection, handler)
        connection.scope["state"]["caller"] = caller

    return guard


def _caller(connection: AnyConnection, tokens: TokenReader) -> Caller:
    given = [value for name, value in connection.scope["headers"] if name == b"authorization"]
    text = given[0].decode("latin-1") if given else ""
    if text[: len(_BEARER)].lower() != _BEARER:
        log.info("api.unauthorized", why="no token")
        detail = "a token is needed: Authorization: Bearer …"
        raise Refused(_UNAUTHORIZED, detail, headers={"www-authenticate": "Bearer"})
    try:
        return tokens.read(text[len(_BEARER) :])
    except TokenError as error:
        log.info("api.unauthorized", why=str(error))
        headers = {"www-authenticate": 'Bearer error="invalid_token"'}
        raise Refused(_UNAUTHORIZED, f"token: {error}", headers=headers) from None


async def _check_body(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """Refuse a body that is not what the route declares, to the letter: the library takes "1" for 1."""
    field = handler.parsed_fn_signature.parameters.get("data")
    if field is None or not isinstance(connection, Request):
        return
    media_type_of(connection, JSON)
    try:
        msgspec.json.decode(await connection.body(), type=field.annotation)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(_BAD_REQUEST, "the body is not what the description asks for") from None


def _check_query(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """Refuse parameters that the route does not know, or that are there twice: they are meant for something.

    Raises Refused. A name that is said back would be the caller's text, so it is not.
    """
    fields = handler.parsed_fn_signature.parameters
    path = connection.scope["path_params"]
    known = {
        _name_of(name, field): field.is_non_string_sequence
        for name, field in fields.items()
        if name not in path and name not in _RESERVED
    }
    try:
        pairs = parse_qsl(
            connection.scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=100,
        )
    except (ValueError, UnicodeDecodeError):
        raise Refused(_BAD_REQUEST, "the query cannot be read") from None
    seen: set[str] = set()
    for name, _ in pairs:
        if name not in known:
            raise Refused(_BAD_REQUEST, "a parameter of the query is unknown here")
        if name in seen and not known[name]:
            raise Refused(_BAD_REQUEST, f"{name}: is there twice")
        seen.add(name)


def _name_of(name: str, field: FieldDefinition) -> str:
    definition = field.kwarg_definition
    return (definition.name if isinstance(definition, ParameterKwarg) else None) or name
