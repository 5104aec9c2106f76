"""Unsubscribing: a page with a button for people, and one click for mail programs (RFC 8058)."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from consumers.public.unsubscribe_page import Step, UnsubscribePage
from consumers.web.requests import FORM, MULTIPART, AnyRequest, Patience, Refused, media_type_of
from pipeline.notifications.callbacks.forms import parse_form
from pipeline.notifications.callbacks.unsubscribing import UnsubscribeTokens

_ONE_CLICK: Final = ("List-Unsubscribe", "One-Click")
_BAD_REQUEST, _NOT_FOUND = 400, 404

Unsubscribe = Callable[[UUID], Awaitable[None]]
"""Takes a recipient, by key, off all mails; durable on return. Raises retryable errors."""


def unsubscribe_routes(
    tokens: UnsubscribeTokens, page: UnsubscribePage, unsubscribe: Unsubscribe, patience: Patience
) -> list[HTTPRouteHandler]:
    """Return the routes. Only POST changes anything: scanners of mails follow every link in them."""

    def show(request: AnyRequest, step: Step, status: int = 200) -> Response[str]:
        language, html = page.page(step, request.headers.get("accept-language", ""))
        headers = {
            "content-language": language,
            "content-security-policy": page.security_policy,
            "vary": "Accept-Language",
        }
        return Response(html, status_code=status, media_type="text/html", headers=headers)

    @get("/unsubscribe/{token:str}")
    async def ask(request: AnyRequest, token: FromPath[str]) -> Response[str]:
        return show(request, "ask") if tokens.open(token) else show(request, "wrong", _NOT_FOUND)

    @post("/unsubscribe/{token:str}", status_code=200)
    async def do(request: AnyRequest, token: FromPath[str]) -> Response[str]:
        key = tokens.open(token)
        if key is None:
            return show(request, "wrong", _NOT_FOUND)
        if not await _is_one_click(request):
            raise Refused(_BAD_REQUEST)
        await patience.wait_for(unsubscribe(key))
        return show(request, "done")

    return [ask, do]


async def _is_one_click(request: AnyRequest) -> bool:
    """Tell whether the body is as RFC 8058 says. The token is the proof; this tells a click from noise."""
    media_type = media_type_of(request, FORM, MULTIPART)
    body = await request.body()
    if media_type == FORM:
        return _ONE_CLICK in parse_form(body)
    name, value = (part.encode() for part in _ONE_CLICK)
    return name in body and value in body
