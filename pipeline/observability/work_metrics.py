"""Seconds of work that wait: for each bottleneck what waits, and what the stage can do in a second."""

from typing import Final

from pipeline.observability.registry import MetricRegistry
from pipeline.observability.stage import Stage

BOTTLENECKS: Final = ("intake", "shards", "sms", "email")


class WorkMetrics:
    """A stage for each part of a bottleneck (a queue, a lane); the one with most seconds is shown.

    Mutable state: the stages, by bottleneck and part.
    """

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Work")
        self._seconds = registry.gauge(
            "postorder_work_seconds", "Seconds of work waiting: see above", "bottleneck"
        )
        self._backlog = registry.gauge(
            "postorder_backlog", "What waits: messages ready, events in the lane, messages due", "bottleneck"
        )
        self._capacity = registry.gauge(
            "postorder_capacity_per_second",
            "What was measured that the stage can do in a second",
            "bottleneck",
        )
        self.stages: dict[str, dict[str, Stage]] = {name: {} for name in BOTTLENECKS}

    def stage(self, bottleneck: str, part: str = "") -> Stage:
        """Return the stage of a part."""
        return self.stages[bottleneck].setdefault(part, Stage())

    def show(self, bottleneck: str) -> None:
        """Show the part that has most to do. What was not measured yet is left out."""
        stages = [stage for stage in self.stages[bottleneck].values() if stage.seconds is not None]
        worst = max(stages, key=lambda stage: (stage.seconds or 0.0, stage.backlog), default=None)
        if worst is None or len(stages) < len(self.stages[bottleneck]):
            # A part that cannot be judged yet may be the worst.
            self.hide(bottleneck)
            return
        self._seconds.labels(bottleneck).set(worst.seconds or 0.0)
        self._backlog.labels(bottleneck).set(worst.backlog)
        if worst.capacity is None:
            self._capacity.remove(bottleneck)
        else:
            self._capacity.labels(bottleneck).set(worst.capacity)

    def hide(self, bottleneck: str) -> None:
        """Show nothing until `show` is called again: what waits cannot be seen at the moment."""
        for gauge in (self._seconds, self._backlog, self._capacity):
            gauge.remove(bottleneck)
