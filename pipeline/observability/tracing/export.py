"""Spans on their way to an OTLP receiver: POST, HTTP, protobuf (opentelemetry.io/docs/specs/otlp)."""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from http import HTTPStatus
from itertools import count
from typing import Final, NamedTuple

import aiohttp
import structlog

from pipeline.backoff import Backoff
from pipeline.lifecycle import Tasks
from pipeline.observability.trace_metrics import TraceMetrics
from pipeline.observability.tracing.otlp import CONTENT_TYPE, encode, rejected
from pipeline.observability.tracing.span import Attribute, Span
from pipeline.settings import TraceSettings

log = structlog.get_logger(__name__)

_SET_MAX: Final = 128
"""Spans in one request: so many are encoded in about a millisecond, for which everything else waits."""
LAST_S: Final = 2.0
"""For the last spans of a process, at most: it is over its drain by then, and whoever ended it waits."""
_ANSWER_BYTES_MAX = 65_536
_TRIES_MAX = 4
_RETRY = Backoff(base_s=0.5, ceiling_s=8.0)
_RETRY_AFTER_MAX_S = 30.0
_LATER = frozenset(
    (
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    )
)  # the ones that the specification has tried again


class _Answer(Enum):
    TAKEN = "taken"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


class _Reply(NamedTuple):
    answer: _Answer
    rejected: int = 0
    retry_after_s: float = 0.0
    why: str = ""


class SpanExport:
    """A service that takes spans without waiting, and sends them in sets. What does not fit is dropped.

    The most downstream of all: when the process ends it sends what is left, for `LAST_S` at most. Mutable
    state: `_queue`; `_full`, set while a set is together; `_ending`; `_is_failing`, so that an outage is
    logged once.
    """

    name = "traces"

    def __init__(
        self,
        settings: TraceSettings,
        resource: Mapping[str, Attribute],
        *,
        metrics: TraceMetrics,
        tasks: Tasks,
    ) -> None:
        self._settings = settings
        self._resource = resource
        self._metrics = metrics
        self._tasks = tasks
        self._queue: deque[Span] = deque()
        self._full = asyncio.Event()
        self._ending = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self._under_way = 0
        self._is_failing = False

    def __repr__(self) -> str:
        return f"SpanExport({len(self._queue)} waiting, {self._under_way} under way)"

    def put(self, span: Span) -> None:
        """Take a span. Never waits, never raises; with a full queue the span is dropped and counted."""
        if len(self._queue) >= self._settings.queue_max:
            self._drop("queue_full", 1)
            return
        self._queue.append(span)
        if len(self._queue) >= _SET_MAX:
            self._full.set()

    async def start(self) -> None:
        """Start sending. Whether anybody is there shows with the first set."""
        self._metrics.waiting.set_function(lambda: len(self._queue))
        headers = {"Content-Type": CONTENT_TYPE}
        if self._settings.authorization:
            headers["Authorization"] = self._settings.authorization
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s), trust_env=False
        )
        self._tasks.start(self._run(), "send spans")

    async def drain(self) -> None:
        """Send what is left, if that can be done in `LAST_S`, or one time-out when that is shorter."""
        self._ending.set()
        self._full.set()
        with suppress(TimeoutError):  # then stop() counts what is left
            async with asyncio.timeout(min(LAST_S, self._settings.timeout_s)):
                await self._tasks.join()

    async def stop(self) -> None:
        """End at once."""
        await self._tasks.cancel()
        if left := len(self._queue) + self._under_way:
            self._drop("ended", left)
            self._queue.clear()
            self._under_way = 0
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _run(self) -> None:
        while not (self._ending.is_set() and not self._queue):
            await self._until_due()
            while self._queue:
                await self._send([self._queue.popleft() for _ in range(min(_SET_MAX, len(self._queue)))])
            if not self._ending.is_set():
                self._full.clear()

    async def _until_due(self) -> None:
        try:
            async with asyncio.timeout(self._settings.interval_s):
                await self._full.wait()
        except TimeoutError:
            pass  # the ordinary case: a set is not full, and goes all the same

    async def _send(self, spans: list[Span]) -> None:
        try:
            body = encode(self._resource, spans)
        except Exception as error:  # nobody stops working because of a span, whatever is in it
            log.error("traces.defect", exc_info=error, spans=len(spans))
            self._drop("defect", len(spans))
            return
        self._under_way = len(spans)
        for attempt in count(1):
            reply = await self._post(body)
            if reply.answer is not _Answer.UNREACHABLE or attempt == _TRIES_MAX or self._ending.is_set():
                break
            await self._pause(max(_RETRY.delay_s(attempt), reply.retry_after_s))
        self._under_way = 0
        self._account(reply, len(spans))

    async def _post(self, body: bytes) -> _Reply:
        assert self._session is not None
        try:
            async with self._session.post(
                self._settings.endpoint, data=body, allow_redirects=False
            ) as response:
                answer = await response.content.read(_ANSWER_BYTES_MAX)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return _Reply(_Answer.UNREACHABLE, why=type(error).__name__)
        why = f"HTTP {response.status}"
        if response.status in _LATER:
            retry_after_s = _seconds(response.headers.get("Retry-After", ""))
            return _Reply(_Answer.UNREACHABLE, retry_after_s=retry_after_s, why=why)
        if response.status != HTTPStatus.OK:
            return _Reply(_Answer.REFUSED, why=why)
        return _Reply(_Answer.TAKEN, rejected=rejected(answer))

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._ending.wait()
        except TimeoutError:
            pass  # the ordinary case: the process goes on

    def _account(self, reply: _Reply, spans: int) -> None:
        if reply.answer is _Answer.TAKEN:
            refused = min(spans, max(0, reply.rejected))
            self._metrics.exported.inc(spans - refused)
            if refused:
                self._drop("refused", refused)
            if self._is_failing:
                log.info("traces.exported_again")
            self._is_failing = False
            return
        self._drop(reply.answer.value, spans)
        if not self._is_failing:
            log.warning("traces.not_exported", answer=reply.answer.value, error=reply.why, spans=spans)
        self._is_failing = True

    def _drop(self, reason: str, spans: int) -> None:
        self._metrics.dropped.labels(reason).inc(spans)


def _seconds(retry_after: str) -> float:
    """Return a Retry-After in seconds, bounded; 0 for one that is absent, a date, or no number."""
    return min(float(retry_after), _RETRY_AFTER_MAX_S) if retry_after.isdecimal() else 0.0
