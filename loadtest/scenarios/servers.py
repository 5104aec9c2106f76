"""What the servers themselves say while a load test runs: waits of the primaries, and the clock of each."""

import time
from collections import Counter

from pipeline.errors import PostorderError
from pipeline.storage.cluster import Cluster
from pipeline.storage.node import Node

_TIMEOUT_S = 2.0
_CLOCK_TRIES = 5
_RUNNING = "CPU"
AWAY = "away"
"""Among what is waited for: how many primaries did not answer."""
# What each session of the application does at this moment. Our own looks are left out.
_WAITS = """
SELECT coalesce(wait_event_type || ':' || wait_event, $1) AS wait, count(*) AS sessions
FROM pg_stat_activity
WHERE state = 'active' AND usename = current_user AND pid <> pg_backend_pid()
  AND query NOT LIKE '%FROM intake_batch WHERE batch_id > $1%'
GROUP BY 1"""
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


async def waits(cluster: Cluster) -> Counter[str]:
    """Return how many sessions wait for what, over all primaries that answer. `CPU`: they run.

    `AWAY`: how many did not answer.
    """
    found: Counter[str] = Counter()
    for shard in cluster:
        try:
            async with shard.primary.connection() as connection:
                for row in await connection.fetch(_WAITS, _RUNNING, timeout=_TIMEOUT_S):
                    found[row["wait"]] += row["sessions"]
        except PostorderError:
            found[AWAY] += 1
    return found


def clock_lead_s() -> float:
    """Return how far this machine's clock is ahead of the one that nobody sets: the same until it is set."""
    return max(time.time() - time.monotonic() for _ in range(_CLOCK_TRIES))  # the quickest of several


async def clock_offset_s(node: Node) -> tuple[float, float]:
    """Return how far a server's clock is ahead of ours, and by how much that may be wrong, in seconds.

    The quickest of several answers, its way there and back taken as equal. Raises StorageUnavailableError.
    """
    best = (0.0, float("inf"))
    async with node.connection() as connection:
        for _ in range(_CLOCK_TRIES):
            asked = time.time()
            theirs = await connection.fetchval(_CLOCK, timeout=_TIMEOUT_S)
            way_s = (time.time() - asked) / 2
            if way_s < best[1]:
                best = (theirs - asked - way_s, way_s)
    return best
