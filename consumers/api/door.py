"""Between the gate and the API's routes: addresses that ask too often, time, undecoded paths."""

import asyncio
from http import HTTPStatus
from math import ceil
from typing import Any

import structlog

from consumers.api.addresses import Addresses
from consumers.web.problem import send_problem
from consumers.web.rate_limits import RateLimits

log = structlog.get_logger(__name__)


class Door:
    """An ASGI application in front of the API's. `endless`: paths whose answers have an end of their own.

    Routes see paths undecoded: an id may hold a slash, written %2F, and is decoded once, by its route.
    """

    def __init__(
        self,
        application: Any,
        addresses: Addresses,
        limits: RateLimits,
        *,
        timeout_s: float,
        endless: frozenset[bytes],
    ) -> None:
        self._application = application
        self._addresses = addresses
        self._limits = limits
        self._timeout_s = timeout_s
        self._endless = endless

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        wait_s = self._limits.take(self._addresses.key_of(scope))
        if wait_s:
            log.info("api.throttled", by="address")
            headers = {"retry-after": str(ceil(wait_s))}
            await send_problem(HTTPStatus.TOO_MANY_REQUESTS, send, headers)
        else:
            path = scope["raw_path"].decode("ascii")
            await self._answer({**scope, "path": path}, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        is_begun = False

        async def send_on(message: Any) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        timeout_s = None if scope["raw_path"] in self._endless else self._timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._application(scope, receive, send_on)
        except TimeoutError:
            if is_begun:
                raise
            log.warning("api.timed_out")
            await send_problem(HTTPStatus.SERVICE_UNAVAILABLE, send)
