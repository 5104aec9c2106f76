"""A change of shards in metrics."""

from datetime import UTC, datetime
from uuid import uuid4

from pipeline.observability.resharding_metrics import ReshardingMetrics
from pipeline.resharding.metered import metered
from pipeline.resharding.progress import Phase, Progress
from pipeline.storage.move_table import Move

MOVE = Move(move_id=uuid4(), source="a", target="b", slots=(1, 2), started_at=datetime.now(UTC))


def test_what_is_reported_is_counted_and_passed_on() -> None:
    metrics, seen = ReshardingMetrics(), []
    report = metered(seen.append, metrics)
    said = [
        Progress(move=MOVE, phase=Phase.COPYING, done=6, total=8),
        Progress(move=MOVE, phase=Phase.WAITING),
        Progress(move=MOVE, phase=Phase.FLIPPING, done=1, total=2, stall_ms=120.0),
    ]
    for progress in said:
        report(progress)
    assert seen == said

    def value(name: str) -> float | None:
        return metrics.registry.get_sample_value(f"postorder_reshard_{name}")

    assert value("tables_copying") == 2
    assert value("waiting") == 0
    assert (value("slots"), value("slots_flipped")) == (2, 1)
    assert (value("pause_seconds_count"), value("pause_seconds_sum")) == (1, 0.12)
    report(Progress(move=MOVE, phase=Phase.WAITING))
    report(Progress(move=MOVE, phase=Phase.DONE, done=2, total=2))
    assert (value("waiting"), value("moves_total")) == (0, 1)
