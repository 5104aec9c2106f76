"""What every request passes before the application, and every answer after it."""

import re
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from consumers.public.problem import problem_body, problem_headers
from pipeline.clock import Clock

_PATH: Final = re.compile(rb"(/[A-Za-z0-9_-]+)+")
_PATH_BYTES_MAX: Final = 256
# Two of one of these would let two readers of the request see two different requests.
_ONCE: Final = frozenset(
    {
        *(b"content-encoding", b"content-length", b"content-type", b"host", b"transfer-encoding"),
        *(b"webhook-id", b"webhook-signature", b"webhook-timestamp", b"x-twilio-signature"),
        b"x-twilio-email-event-webhook-signature",
        b"x-twilio-email-event-webhook-timestamp",
    }
)
_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_KINDS: Final = {
    b"/twilio/status/": "status",
    b"/twilio/inbound": "inbound",
    b"/unsubscribe/": "unsubscribe",
    b"/mail/bounces": "bounce",
    b"/mail/events/": "bounce",
}

Observe = Callable[[str, int, float], None]
"""Told of each answer: its kind, its status, and how long it took in seconds."""


class Gate:
    """An ASGI application in front of another. Mutable state: `under_way`, how many requests are.

    Refuses what no route could want: paths of other characters than ours (so there is one way to write
    each), headers that contradict themselves, packed bodies, and more at once than is allowed.
    """

    def __init__(
        self, application: Any, *, requests_max: int, is_https: bool, observe: Observe, clock: Clock
    ) -> None:
        self._application = application
        self._requests_max = requests_max
        self._observe = observe
        self._clock = clock
        headers = {**_HEADERS, **({"strict-transport-security": "max-age=31536000"} if is_https else {})}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.under_way = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        began = self._clock.monotonic()
        answered = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def send_on(message: Any) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                message = {**message, "headers": self._with_ours(message["headers"])}
            await send(message)

        self.under_way += 1
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._application(scope, receive, send_on)
            else:
                await _answer(refusal, send_on)
        finally:
            self.under_way -= 1
            self._observe(_kind(scope["raw_path"]), answered, self._clock.monotonic() - began)

    def _refusal(self, scope: Any) -> HTTPStatus | None:
        if self.under_way > self._requests_max:
            return HTTPStatus.SERVICE_UNAVAILABLE
        counts = Counter(name for name, _ in scope["headers"] if name in _ONCE)
        if any(count > 1 for count in counts.values()):
            return HTTPStatus.BAD_REQUEST
        if not counts[b"host"] and scope["http_version"] == "1.1":
            return HTTPStatus.BAD_REQUEST
        path = scope["raw_path"]
        if len(path) > _PATH_BYTES_MAX or not _PATH.fullmatch(path):
            return HTTPStatus.NOT_FOUND
        encoding = next(
            (value for name, value in scope["headers"] if name == b"content-encoding"), b"identity"
        )
        return None if encoding.lower() == b"identity" else HTTPStatus.UNSUPPORTED_MEDIA_TYPE

    def _with_ours(self, headers: Any) -> list[tuple[bytes, bytes]]:
        named = {name for name, _ in headers}
        return [*headers, *(ours for ours in self._headers if ours[0] not in named)]


async def _answer(status: HTTPStatus, send: Any) -> None:
    body = problem_body(status)
    headers = {**problem_headers(status), "content-length": str(len(body))}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status.value, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _kind(path: bytes) -> str:
    return next((kind for prefix, kind in _KINDS.items() if path.startswith(prefix)), "other")
