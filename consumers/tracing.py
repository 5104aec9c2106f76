"""Traces put together: where spans go, and which events have some. Only in processes that trace."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from socket import gethostname
from uuid import uuid4

from pipeline.clock import Clock
from pipeline.errors import SettingsError
from pipeline.ingest.batch_traces import BatchTraces
from pipeline.lifecycle import Service, Tasks
from pipeline.observability.metrics import Metrics
from pipeline.observability.trace_metrics import TraceMetrics
from pipeline.observability.tracing.sampler import Sampler
from pipeline.observability.tracing.span import Attribute, Span
from pipeline.settings import TraceSettings


class Tracing:
    """What a process that traces has: who sends spans, and who picks the events."""

    def __init__(
        self,
        settings: TraceSettings,
        *,
        roles: frozenset[str],
        metrics: Metrics,
        clock: Clock,
        new_tasks: Callable[[], Tasks],
    ) -> None:
        try:
            # A process that does not trace loads none of it: some 60 ms, and a few megabytes.
            from pipeline.observability.tracing.export import SpanExport  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError(
                [f"traces.endpoint: needs the extra `traces` to be installed: no module {error.name}"]
            ) from error
        counted = TraceMetrics(metrics.registry)
        export = SpanExport(settings, _resource(settings, roles), metrics=counted, tasks=new_tasks())
        sampler = Sampler(
            ratio=settings.sample_ratio, per_s_max=settings.events_per_s_max, metrics=counted, clock=clock
        )
        self._export: Service = export
        self.put: Callable[[Span], None] = export.put
        self.batches = BatchTraces(sampler, export.put)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send spans while the block runs, and afterwards what is left.

        The block is the rest of the process, to its end: so a receiver that does not answer takes none of the
        time that the others have for what they hold.
        """
        await self._export.start()
        try:
            yield
        finally:
            try:
                await self._export.drain()
            finally:
                await self._export.stop()


def running(tracing: Tracing | None) -> AbstractAsyncContextManager[None]:
    """As `Tracing.running`; nothing in a process that does not trace."""
    return nullcontext() if tracing is None else tracing.running()


def tracing_of(
    settings: TraceSettings,
    *,
    roles: frozenset[str],
    metrics: Metrics,
    clock: Clock,
    new_tasks: Callable[[], Tasks],
) -> Tracing | None:
    """Return what traces; None without an endpoint. Raises SettingsError when it is not installed."""
    if not settings.endpoint:
        return None
    return Tracing(settings, roles=roles, metrics=metrics, clock=clock, new_tasks=new_tasks)


def _resource(settings: TraceSettings, roles: frozenset[str]) -> dict[str, Attribute]:
    return {
        "service.name": settings.service_name,
        "service.instance.id": str(uuid4()),
        "host.name": gethostname(),
        "process.pid": os.getpid(),
        "postorder.roles": ",".join(sorted(roles)),
    }
