"""Replies that are wrong on purpose. Whoever reads them should neither crash nor believe them."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from stack.standin.fault_plan import draw_seconds
from stack.twilio.behaviour import Conduct, HttpFault
from stack.twilio.errors import CODE_OF_STATUS, REQUEST_ERRORS, error_body

JSON: Final = "application/json"
# These tell the client nothing of what the server did.
_INSTEAD: Final = frozenset({"status", "redirect", "not_json", "accept_then_drop", "drop_before"})
_PIECES_MAX: Final = 50
_BLOCK: Final = b" " * 65_536


def json_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a reply with a JSON body."""
    return web.Response(status=status, body=body, content_type=JSON, headers=headers)


def no_reply(request: web.BaseRequest) -> web.Response:
    """Close the connection. The response returned here goes nowhere: aiohttp finds nobody to write to."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def refusal(fault: HttpFault) -> web.Response:
    """Return the reply a `status` or `redirect` fault describes."""
    status = 302 if fault.action == "redirect" else fault.status
    code = fault.code or CODE_OF_STATUS.get(status, 20001)
    _, message = REQUEST_ERRORS.get(code, (status, "An error"))
    body = error_body(code, status, message) if fault.body is None else fault.body.encode()
    headers = {"Content-Type": JSON}
    if fault.action == "redirect":
        headers["Location"] = "/elsewhere"
    if fault.retry_after is not None:
        headers["Retry-After"] = fault.retry_after
    return web.Response(status=status, body=body, headers=headers | fault.headers)


class FaultReplies:
    """Shows one fault to one request. `served` is what a healthy server would have replied."""

    def __init__(self, request: web.BaseRequest, fault: HttpFault, conduct: Conduct) -> None:
        self._request = request
        self._fault = fault
        self._conduct = conduct

    async def wait(self) -> None:
        """Wait the latency that the rule asks for."""
        await asyncio.sleep(draw_seconds(self._fault.latency_ms, self._conduct.rng))

    async def show(self, served: web.Response | None, previous_sid: str) -> web.StreamResponse:
        """Return the reply, or close the connection."""
        if served is None or self._fault.action in _INSTEAD:
            return self._instead()
        match self._fault.action:
            case "hang":
                await asyncio.sleep(self._fault.hang_ms / 1000)
            case "no_sid" | "foreign_sid" | "duplicate_sid":
                return self._with_wrong_sid(served, previous_sid)
            case "slow_body" | "huge_body":
                return await self._stream(served)
            case "truncated_body" | "bad_chunks":
                return self._break_off(served)
        return served

    def _instead(self) -> web.Response:
        match self._fault.action:
            case "status" | "redirect":
                return refusal(self._fault)
            case "not_json":
                page = b"<html><body><h1>We will be right back</h1></body></html>"
                return web.Response(status=200, body=page, content_type="text/html")
        return no_reply(self._request)

    def _with_wrong_sid(self, served: web.Response, previous_sid: str) -> web.Response:
        resource: dict[str, Any] = orjson.loads(_content(served))
        match self._fault.action:
            case "no_sid":
                del resource["sid"]
            case "foreign_sid":
                resource["sid"] = "message-1"
            case _:
                resource["sid"] = previous_sid
        return json_response(served.status, orjson.dumps(resource))

    async def _stream(self, served: web.Response) -> web.StreamResponse:
        content = _content(served)
        response = web.StreamResponse(status=served.status, headers={"Content-Type": JSON})
        with contextlib.suppress(ConnectionError):  # a client that gave up is what this is for
            if self._fault.action == "huge_body":
                await response.prepare(self._request)
                for _ in range(-(-self._fault.size_bytes // len(_BLOCK))):
                    await response.write(_BLOCK)
                return response
            response.content_length = len(content)
            await response.prepare(self._request)
            size = -(-len(content) // _PIECES_MAX)
            pieces = [content[start : start + size] for start in range(0, len(content), size)]
            for piece in pieces:
                await asyncio.sleep(self._fault.hang_ms / 1000 / len(pieces))
                await response.write(piece)
        return response

    def _break_off(self, served: web.Response) -> web.Response:
        content = _content(served)
        start = f"HTTP/1.1 {served.status} Created\r\nContent-Type: {JSON}\r\n".encode()
        if self._fault.action == "truncated_body":
            rest = b"Content-Length: %d\r\n\r\n%s" % (len(content), content[: len(content) // 2])
        else:
            rest = b"Transfer-Encoding: chunked\r\n\r\nzz\r\n%s\r\n" % content
        if self._request.transport is not None:
            self._request.transport.write(start + rest)
        return no_reply(self._request)


def _content(response: web.Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body
