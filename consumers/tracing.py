"""Traces put together: where spans go, and which events have some. Only in processes that trace."""

import os
from collections.abc import Callable
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
    """What a process that traces has: a service that sends spans, and who picks the events."""

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
        self.service: Service = export
        self.put: Callable[[Span], None] = export.put
        self.batches = BatchTraces(sampler, export.put)


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
