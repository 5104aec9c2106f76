"""What the ops port answers: pure functions of what the process says of itself."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from pipeline.observability.loop_watch import LoopWatch
from pipeline.observability.readiness import Readiness
from pipeline.observability.registry import MetricRegistry

_LINES: Final = "application/jsonl; charset=utf-8"


class Answer(NamedTuple):
    """A status with a body of a type."""

    status: HTTPStatus
    body: bytes
    content_type: str = _LINES


class OpsAnswers:
    """Answers by path. Everything is read, nothing changed: the event loop may be stuck meanwhile."""

    def __init__(
        self, registry: MetricRegistry, readiness: Readiness, loop: LoopWatch, *, stalled_s: float
    ) -> None:
        self._registry = registry
        self._readiness = readiness
        self._loop = loop
        self._stalled_s = stalled_s
        self._routes: dict[str, Callable[[str], Answer]] = {
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
        }

    def answer(self, path: str, accept: str) -> Answer:
        """Return the answer to a GET of a path without its query."""
        route = self._routes.get(path)
        if route is None:
            return said(HTTPStatus.NOT_FOUND, f"nothing here: ask for {', '.join(self._routes)}")
        return route(accept)

    def _metrics(self, accept: str) -> Answer:
        page, content_type = self._registry.page(accept)
        return Answer(HTTPStatus.OK, page, content_type)

    def _livez(self, _accept: str) -> Answer:
        """Say whether the event loop comes round: if not, only a new process helps."""
        idle_s = self._loop.idle_s()
        line = {"event_loop_idle_s": round(idle_s, 3)}
        if idle_s < self._stalled_s:
            return Answer(HTTPStatus.OK, _lines({"live": True, **line}))
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, _lines({"live": False, "cause": "event_loop", **line}))

    def _readyz(self, _accept: str) -> Answer:
        """Say whether work may be sent here, and a line for each cause why not, or why less well."""
        causes = self._readiness.causes()
        is_ready = not any(cause.is_blocking for cause in causes)
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer(status, _lines(*causes) if causes else _lines({"ready": True}))


def said(status: HTTPStatus, problem: str) -> Answer:
    """Return an answer that says what is wrong."""
    return Answer(status, _lines({"problem": problem}))


def _lines(*values: object) -> bytes:
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)
