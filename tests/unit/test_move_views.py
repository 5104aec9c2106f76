"""What is said of moves between shards."""

from datetime import UTC, datetime
from uuid import uuid4

from structlog.testing import capture_logs

from consumers.shards_report import _move_views
from pipeline.settings import Settings, ShardSettings
from pipeline.storage.cluster import Cluster
from pipeline.storage.move_table import Move


def move_to(target: str) -> Move:
    return Move(move_id=uuid4(), source="a", target=target, slots=(1, 2, 3), started_at=datetime.now(UTC))


async def test_a_move_to_a_shard_that_is_being_added_is_shown_before_this_process_knows_it() -> None:
    """While its first rows are copied no map names it: the overview of every process that ran failed."""
    nowhere = "postgresql://u@127.0.0.1:1/d"
    cluster = Cluster(Settings(shards=tuple(ShardSettings(name=n, primary=nowhere) for n in ("a", "b"))))
    with capture_logs():
        views = await _move_views(cluster, [move_to("new"), move_to("b")])
        alone = await _move_views(cluster, [move_to("new")])
    assert [(view.target, view.moved, view.slots) for view in views + alone] == [
        ("new", None, 3),
        ("b", None, 3),
        ("new", None, 3),
    ]
    assert await _move_views(cluster, []) == []
