"""Which statements the primaries ran, how often and for how long, by pg_stat_statements."""

from typing import NamedTuple

import msgspec

from pipeline.storage.cluster import Cluster

_READ = """
SELECT regexp_replace(substr(query, 1, 400), '\\s+', ' ', 'g') AS query, sum(calls) AS calls,
       sum(rows) AS rows, sum(total_exec_time) AS ms
FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
WHERE r.rolname = current_user AND query NOT LIKE '%pg_stat_statements%'
GROUP BY 1"""
_WORDS_MAX = 90
_SHOWN_MAX = 12
# The benchmark's own, and what a driver asks of a new connection.
_NOT_SENDING = ("WITH made AS", "typeinfo_tree", "order_id LIKE", "SELECT (SELECT count(*)")


class Calls(NamedTuple):
    """How often a statement ran, the rows it gave back or changed, and the time it took in all."""

    calls: int
    rows: int
    ms: float


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement in a scenario: how many messages and rows there were to a call, and its mean time."""

    begins: str
    messages_per_call: float
    rows_per_call: float
    mean_ms: float
    us_per_message: float


async def read_calls(cluster: Cluster) -> dict[str, Calls]:
    """Return what ran so far, over all primaries."""
    found: dict[str, Calls] = {}
    for shard in cluster:
        async with shard.primary.connection() as connection:
            for row in await connection.fetch(_READ):
                before = found.get(row["query"], Calls(0, 0, 0.0))
                found[row["query"]] = Calls(
                    before.calls + int(row["calls"]), before.rows + int(row["rows"]), before.ms + row["ms"]
                )
    return found


def statements(before: dict[str, Calls], after: dict[str, Calls], messages: int) -> list[Statement]:
    """Return the statements that took the servers longest between two readings."""
    found = []
    for query, now in after.items():
        was = before.get(query, Calls(0, 0, 0.0))
        calls, rows, ms = now.calls - was.calls, now.rows - was.rows, now.ms - was.ms
        if calls and not any(words in query for words in _NOT_SENDING):
            found.append(
                Statement(
                    begins=query[:_WORDS_MAX],
                    messages_per_call=round(messages / calls, 1),
                    rows_per_call=round(rows / calls, 1),
                    mean_ms=round(ms / calls, 3),
                    us_per_message=round(ms * 1e3 / messages, 1),
                )
            )
    return sorted(found, key=lambda one: one.us_per_message, reverse=True)[:_SHOWN_MAX]
