"""The ops port's HTTP server: threads of its own, so that it answers while the event loop is stuck.

Only the standard library: it answers a scrape and two probes every few seconds, and must not depend on what
it reports about. Bounded in every way: requests at once, their time, their size.
"""

import socket
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import Any, Final

import structlog

from consumers.ops.answers import Answer, said
from pipeline.errors import SettingsError

log = structlog.get_logger(__name__)

REQUESTS_MAX: Final = 16
REQUEST_S: Final = 10.0
"""From accepting a connection to the end of its answer; then it is cut."""
_FULL: Final = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/jsonl\r\nConnection: close\r\n\r\n"
    b'{"problem":"too many requests at once"}\n'
)

Respond = Callable[[str, str], Answer]
"""Returns the answer to a GET, given its path and its Accept header."""


class OpsServer(ThreadingMixIn, TCPServer):
    """Listens as soon as it is made; answers from `start` to `close`. Mutable state: `_begun`.

    Raises SettingsError when it cannot listen.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, respond: Respond) -> None:
        self.respond = respond
        self._begun: dict[socket.socket, float] = {}
        self._lock = Lock()
        self._thread: Thread | None = None
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self.address_family = family
            super().__init__((str(address[0]), port), _Handler)
        except OSError as error:
            problem = f"ops.metrics_port: cannot listen on {host}:{port}: {error.strerror}"
            raise SettingsError([problem]) from error

    def __repr__(self) -> str:
        return f"OpsServer({self.server_address}, {len(self._begun)} requests)"

    def start(self) -> None:
        """Answer from now on."""
        self._thread = Thread(target=self.serve_forever, name="ops port", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more requests; those under way are ended with the process."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join(REQUEST_S)
        self.server_close()

    # --- what socketserver calls ------------------------------------------------------------------

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread, unless there are too many."""
        with self._lock:
            is_full = len(self._begun) >= REQUESTS_MAX
            if not is_full:
                self._begun[request] = time.monotonic()
        if is_full:
            _refuse(request)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, whatever became of it."""
        with self._lock:
            self._begun.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut connections that take too long; called twice a second."""
        late = time.monotonic() - REQUEST_S
        with self._lock:
            overdue = [request for request, begun in self._begun.items() if begun < late]
        for request in overdue:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError as error:  # it has just ended
                log.debug("ops.request_over", error=type(error).__name__)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the library's signature
        """Log what a handler died of, in place of a traceback on stderr."""
        log.debug("ops.request_failed", error=type(sys.exc_info()[1]).__name__)


class _Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: a connection has one."""

    server: OpsServer
    server_version = "postorder"
    sys_version = ""
    timeout = 5.0

    def do_GET(self) -> None:  # named so by the library
        self._reply(self._answer())

    do_HEAD = do_GET  # noqa: N815  # as above

    def _answer(self) -> Answer:
        try:
            return self.server.respond(self.path.partition("?")[0], self.headers.get("Accept", ""))
        except Exception:  # a metric that cannot be read: the port goes on, and says so
            log.exception("ops.answer_failed")
            return said(HTTPStatus.INTERNAL_SERVER_ERROR, "this cannot be told: see the log")

    def _reply(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer what is no request for something: a method, a line or a header that cannot be."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self.close_connection = True
        self._reply(said(status, status.phrase))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # named so by the library
        """Say nothing: a request may hold anything."""


def _refuse(request: socket.socket) -> None:
    try:
        request.settimeout(0.1)
        request.sendall(_FULL)
    except OSError as error:
        log.debug("ops.refusal_unread", error=type(error).__name__)
