"""The ops port put together: what a process says of itself, from before anything is connected to the end."""

from collections import Counter
from collections.abc import Iterable

from consumers.ops.answers import OpsAnswers
from consumers.ops.server import OpsServer
from consumers.roles import Role
from pipeline.lifecycle import Tasks
from pipeline.observability.loop_watch import LoopWatch
from pipeline.observability.metrics import Metrics
from pipeline.observability.readiness import CAUSES, Readiness
from pipeline.settings import OpsSettings


class OpsPort:
    """Watches the event loop, and serves /metrics, /livez and /readyz when the settings name a port.

    Not a service: it answers while services are started and while they drain. Raises SettingsError when it
    cannot listen.
    """

    def __init__(
        self,
        settings: OpsSettings,
        metrics: Metrics,
        readiness: Readiness,
        *,
        roles: Iterable[Role],
        tasks: Tasks,
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._loop = LoopWatch(metrics, tasks)
        answers = OpsAnswers(metrics.registry, readiness, self._loop, stalled_s=settings.loop_stalled_s)
        self._server = (
            OpsServer(settings.metrics_host, settings.metrics_port, answers.answer)
            if settings.metrics_port
            else None
        )
        for role in roles:
            metrics.role.labels(role).set(1)
        metrics.ready.set_function(lambda: readiness.is_ready)
        metrics.looks.append(self._show_causes)

    def __repr__(self) -> str:
        return f"OpsPort({self._server!r}, {self._loop!r})"

    def start(self) -> None:
        """Begin to watch and to answer."""
        self._loop.start()
        if self._server is not None:
            self._server.start()

    async def close(self) -> None:
        """End: a scrape from now on finds nobody."""
        await self._loop.stop()
        if self._server is not None:
            self._server.close()

    def _show_causes(self) -> None:
        found = Counter(cause.cause for cause in self._readiness.causes())
        for cause in CAUSES:
            self._metrics.not_ready.labels(cause).set(found[cause])
