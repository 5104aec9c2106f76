"""The supervisor's ops port: its own metrics, whether it is alive, and whether its workers are up."""

import time
from http import HTTPStatus
from typing import Final

import msgspec

from consumers.allocator.supervisor import Supervisor
from consumers.ops.answers import Answer, said
from pipeline.observability.registry import MetricRegistry

_LINES: Final = "application/jsonl; charset=utf-8"


class SupervisorAnswers:
    """Answers by path, from another thread: everything is read, nothing changed.

    Ready: every worker that is wanted has spoken. Each says on its own port whether it is ready itself.
    """

    def __init__(self, registry: MetricRegistry, supervisor: Supervisor, *, stalled_s: float) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._stalled_s = stalled_s
        self._beat_at_s = time.monotonic()

    def beat(self) -> None:
        """Note that the event loop comes round."""
        self._beat_at_s = time.monotonic()

    def answer(self, path: str, accept: str) -> Answer:
        """Return the answer to a GET of a path without its query."""
        match path:
            case "/metrics":
                page, content_type = self._registry.page(accept)
                return Answer(HTTPStatus.OK, page, content_type)
            case "/livez":
                idle_s = time.monotonic() - self._beat_at_s
                is_live = idle_s < self._stalled_s
                line = {"live": is_live, "event_loop_idle_s": round(idle_s, 3)}
                return _answer(line, is_well=is_live)
            case "/readyz":
                causes = self._supervisor.causes()
                return _answer(*(causes or ({"ready": True},)), is_well=not causes)
        return said(HTTPStatus.NOT_FOUND, "nothing here: ask for /metrics, /livez, /readyz")


def _answer(*lines: object, is_well: bool) -> Answer:
    body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    return Answer(HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE, body, _LINES)
