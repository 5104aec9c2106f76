"""Settings of the allocator: between which bounds `postorder run --workers auto` decides."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Count, Seconds, about

WORKERS_MAX = 64
"""Worker processes under one supervisor."""

Workers = Annotated[int, Meta(ge=1, le=WORKERS_MAX)]
Share = Annotated[float, Meta(gt=0, le=1)]
Prefetch = Annotated[int, Meta(ge=1, le=65_535)]


class AllocatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `postorder run --workers auto` may do."""

    workers_min: Annotated[Workers, about("worker processes at least, and at the start")] = 1
    workers_max: Annotated[
        Annotated[int, Meta(ge=0, le=WORKERS_MAX)],
        about("worker processes at most; 0: as many as there are CPUs for us"),
    ] = 0
    prefetch_min: Annotated[Prefetch, about("`amqp.prefetch` is lowered to this at least")] = 500
    prefetch_max: Annotated[Prefetch, about("`amqp.prefetch` is raised to this at most")] = 8000
    batch_min: Annotated[Count, about("`intake.batch_max` is lowered to this at least")] = 100
    batch_max: Annotated[Count, about("`intake.batch_max` is raised to this at most")] = 1000
    look_every_s: Annotated[Seconds, about("from one look, and decision, to the next")] = 2.0
    backlog_s: Annotated[Seconds, about("more work than this, waiting, is a backlog")] = 1.0
    cpu_high: Annotated[Share, about("of a core; busier workers with a backlog are too few")] = 0.8
    cpu_low: Annotated[
        Share, about("of a core; a worker ends when the others would be no busier than this")
    ] = 0.5
    machine_high: Annotated[
        Share, about("of all CPUs; a busier machine gets no more workers, which would only take turns")
    ] = 0.9
    write_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)],
        about("full batches that take longer are made smaller; larger only below half of it"),
    ] = 250.0
    grow_after_s: Annotated[Seconds, about("for so long there must be a reason for more")] = 6.0
    shrink_after_s: Annotated[Seconds, about("for so long there must be a reason for less")] = 60.0
    settle_s: Annotated[Seconds, about("from one change to the next at least")] = 10.0
