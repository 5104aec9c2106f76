"""Turns what a change says of itself into metrics."""

from pipeline.observability.resharding_metrics import ReshardingMetrics
from pipeline.resharding.progress import Phase, Progress, Report


def metered(report: Report, metrics: ReshardingMetrics) -> Report:
    """Return a report that also counts."""

    def tell(progress: Progress) -> None:
        metrics.waiting.set(progress.phase is Phase.WAITING)
        match progress.phase:
            case Phase.COPYING:
                metrics.tables.set(progress.total - progress.done)
            case Phase.FLIPPING | Phase.BACK:
                metrics.slots.set(progress.total)
                metrics.done.set(progress.done)
                metrics.pauses.observe(progress.stall_ms / 1e3)
            case Phase.DONE:
                metrics.moves.inc()
            case _:
                pass
        report(progress)

    return tell
