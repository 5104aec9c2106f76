"""What every request passes before the application, and every answer after it."""

import re
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from consumers.web.problem import send_problem
from pipeline.clock import Clock

# Two of one of these would let two readers of the request see two different requests.
_ONCE: Final = frozenset(
    {b"content-encoding", b"content-length", b"content-type", b"host", b"transfer-encoding"}
)
_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

LEFT: Final = 499
"""The status, in no standard, of who left, or was cut off, before the request was there: as nginx has it."""

Observe = Callable[[str, int, float], None]
"""Told of each answer: its kind, its status, or LEFT, and how long it took in seconds."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests of one listener look like.

    `path`: what a whole path matches, so that there is one way to write each. `once`: headers that are there
    once at most, beside those for which that always holds. `methods`: those that any route has. `kind` names
    a path for metrics, by one of few words.
    """

    methods: tuple[str, ...]
    path: re.Pattern[bytes]
    path_bytes_max: int
    once: frozenset[bytes]
    kind: Callable[[bytes], str]


class Gate:
    """An ASGI application in front of another. Mutable state: `under_way`, how many requests are.

    Refuses what no route could want: paths of other characters than ours, headers that contradict themselves,
    packed bodies, and more at once than is allowed.
    """

    def __init__(
        self,
        application: Any,
        rules: Rules,
        *,
        requests_max: int,
        is_https: bool,
        observe: Observe,
        clock: Clock,
    ) -> None:
        self._application = application
        self._rules = rules
        self._once = _ONCE | rules.once
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
        has_left = False

        async def receive_from() -> Any:
            nonlocal has_left
            message = await receive()
            has_left = has_left or message["type"] == "http.disconnect"
            return message

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
                await self._application(self._with_method(scope), receive_from, send_on)
            else:
                await send_problem(refusal, send_on)
        finally:
            self.under_way -= 1
            # A body that ends too early is an error to the application, which nobody hears of any more.
            status = LEFT if has_left and answered >= HTTPStatus.INTERNAL_SERVER_ERROR else answered
            self._observe(self._rules.kind(scope["raw_path"]), status, self._clock.monotonic() - began)

    def _refusal(self, scope: Any) -> HTTPStatus | None:
        if self.under_way > self._requests_max:
            return HTTPStatus.SERVICE_UNAVAILABLE
        counts = Counter(name for name, _ in scope["headers"] if name in self._once)
        if any(count > 1 for count in counts.values()):
            return HTTPStatus.BAD_REQUEST
        if not counts[b"host"] and scope["http_version"] == "1.1":
            return HTTPStatus.BAD_REQUEST
        path = scope["raw_path"]
        if len(path) > self._rules.path_bytes_max or not self._rules.path.fullmatch(path):
            return HTTPStatus.NOT_FOUND
        encoding = next(
            (value for name, value in scope["headers"] if name == b"content-encoding"), b"identity"
        )
        return None if encoding.lower() == b"identity" else HTTPStatus.UNSUPPORTED_MEDIA_TYPE

    def _with_method(self, scope: Any) -> Any:
        """Return a request so that a method of no route ends as one that its path has not: 405.

        No route has TRACE. The library would answer OPTIONS itself, and name but some of a path's methods.
        """
        return scope if scope["method"] in self._rules.methods else {**scope, "method": "TRACE"}

    def _with_ours(self, headers: Any) -> list[tuple[bytes, bytes]]:
        named = {name for name, _ in headers}
        return [*headers, *(ours for ours in self._headers if ours[0] not in named)]
