"""The listener: a socket, uvicorn on this process's event loop, and its drain."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import structlog
import uvicorn

from consumers.web.gate import Gate
from consumers.web.protocol import BoundedProtocol, Limits
from pipeline.errors import SettingsError
from pipeline.lifecycle import Tasks

log = structlog.get_logger(__name__)

_BACKLOG = 1024


class _Server(uvicorn.Server):
    """uvicorn's server, in a process that has signal handlers of its own and other things to drain."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.listening.set()


class ListenerSettings(Protocol):
    """What the settings of each listener say, under the same names."""

    @property
    def host(self) -> str: ...  # noqa: D102  # the settings' own words say what each is
    @property
    def port(self) -> int: ...  # noqa: D102
    @property
    def connections_max(self) -> int: ...  # noqa: D102
    @property
    def head_bytes_max(self) -> int: ...  # noqa: D102
    @property
    def request_timeout_s(self) -> float: ...  # noqa: D102
    @property
    def answer_timeout_s(self) -> float: ...  # noqa: D102
    @property
    def idle_timeout_s(self) -> int: ...  # noqa: D102


class Listener:
    """The service. `port` is known after `start`, also when the settings say 0 (a free one, in tests).

    `section`: of the settings, for names and errors.
    """

    def __init__(
        self,
        section: str,
        settings: ListenerSettings,
        gate: Gate,
        *,
        on_refusal: Callable[[int], None],
        tasks: Tasks,
    ) -> None:
        self.name = f"{section} listener"
        self._section = section
        self._settings = settings
        self._gate = gate
        self._on_refusal = on_refusal
        self._tasks = tasks
        self._server: _Server | None = None
        self._socket: socket.socket | None = None
        self.port = settings.port

    async def start(self) -> None:
        """Listen. Raises SettingsError when the address cannot be had."""
        for name in ("uvicorn.error", "uvicorn.access"):  # it warns of every malformed request
            logging.getLogger(name).setLevel(logging.CRITICAL)
        bound = self._socket = self._bind()
        self.port = bound.getsockname()[1]
        self._server = _Server(self._config())
        self._tasks.start(self._server.serve([bound]), self.name)
        await self._server.listening.wait()
        log.info("listener.started", listener=self._section, host=self._settings.host, port=self.port)

    def _bind(self) -> socket.socket:
        host, port = self._settings.host, self._settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            # Several processes may listen on one port; the kernel shares connections out among them.
            return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=True)
        except OSError as error:
            where = f"{self._section}.port: cannot listen on {host}:{port}"
            raise SettingsError([f"{where}: {error.strerror}"]) from error

    def _config(self) -> uvicorn.Config:
        settings = self._settings
        limits = Limits(
            connections_max=settings.connections_max,
            head_bytes_max=settings.head_bytes_max,
            request_timeout_s=settings.request_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
        )
        protocol: Any = partial(BoundedProtocol, limits=limits, on_refusal=self._on_refusal)
        return uvicorn.Config(
            self._gate,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # X-Forwarded-For can be anybody's; who needs it asks whom it came from
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=settings.idle_timeout_s,
            timeout_graceful_shutdown=int(settings.answer_timeout_s + settings.request_timeout_s) + 1,
        )

    async def drain(self) -> None:
        """Take no more connections; answer what is under way."""
        if self._server is not None:
            self._server.should_exit = True
            await self._tasks.join()

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            for server in getattr(self._server, "servers", ()):
                server.close()
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
        await self._tasks.cancel()
        if self._socket is not None:
            self._socket.close()
