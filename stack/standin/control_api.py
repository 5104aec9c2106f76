"""The JSON control API in front of a stand-in server: routes, parameters and errors.

No authentication: these servers belong on loopback, next to the tests that ask them.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
import orjson
from aiohttp import web

PREFIX: Final = "/_control/"

# A handler takes the request and what its path captured, and returns JSON-ready data or a response.
Handler = Callable[[web.BaseRequest, str], Awaitable[Any]]
StructT = TypeVar("StructT", bound=msgspec.Struct)


class ControlRefused(Exception):  # noqa: N818 - a refusal is an answer, not an error of this program
    """The control request gets a 4xx reply that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request body without fields."""


class ControlApi:
    """Routes control requests: `{"GET messages": handler, "GET messages/*/raw": handler}`."""

    def __init__(self, routes: Mapping[str, Handler]) -> None:
        self._routes = [(*self._compile(route), handler) for route, handler in routes.items()]

    @staticmethod
    def _compile(route: str) -> tuple[str, re.Pattern[str]]:
        method, path = route.split(" ")
        return method, re.compile(re.escape(PREFIX + path).replace(r"\*", "([^/]+)") + "/?")

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            answer = await self._dispatch(request)
        except ControlRefused as refused:
            return _json(refused.status, {"error": str(refused)})
        except msgspec.MsgspecError as error:
            return _json(400, {"error": str(error)})
        return answer if isinstance(answer, web.StreamResponse) else _json(200, answer)

    async def _dispatch(self, request: web.BaseRequest) -> Any:
        allowed = []
        for method, path, handler in self._routes:
            found = path.fullmatch(request.path)
            if found is None:
                continue
            if method == request.method:
                return await handler(request, found[1] if found.groups() else "")
            allowed.append(method)
        if allowed:
            raise ControlRefused(405, f"use {' or '.join(allowed)}")
        raise ControlRefused(404, f"no such control endpoint: {request.path}")


def read_query(request: web.BaseRequest, query: type[StructT]) -> StructT:
    """Return the query string as a struct; unknown or malformed parameters are refused."""
    return msgspec.convert(dict(request.query), query, strict=False)


async def read_body(request: web.BaseRequest, body: type[StructT]) -> StructT:
    """Return the JSON body as a struct; nothing at all counts as `{}`."""
    return msgspec.json.decode(await request.read() or b"{}", type=body)


def _json(status: int, data: Any) -> web.Response:
    text = orjson.dumps(data, default=msgspec.to_builtins, option=orjson.OPT_INDENT_2)
    return web.Response(status=status, body=text, content_type="application/json")
