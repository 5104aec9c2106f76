"""The pairs: who is there, how far replicas are behind, and who gets how much."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.boards import board
from dashboards.panels import GREEN, NS, RED, SHARD, YELLOW, Query, Row, graph, p, states

_MB = 1024 * 1024


def shards() -> Dashboard:
    """Return the dashboard of shards and replication."""
    rows = [_up(), _lag(), _shares(), _connections(), _contents()]
    about = "Primaries, replicas and their lag, each shard's share, connections, and what the tables hold."
    return board("shards", "shards and replication", rows, about=about, variables=("shard",))


def _most(metric: str) -> str:
    return f"max by (namespace, shard) ({metric}{{{SHARD}}})"


def _up() -> Row:
    return Row(
        "Who is there",
        [
            states(
                "Primary",
                Query(_most("postorder_primary_up"), "{{shard}}"),
                about="Whether any process reaches a primary that takes writes.",
                words={"0": ("none", RED), "1": ("there", GREEN)},
                width=8,
            ),
            states(
                "Replicas that follow",
                Query(_most("postorder_replicas"), "{{shard}}"),
                about="Without one, commits that wait for a replica stand still (or, under Patroni that is "
                "not strict, are on one server).",
                words={"0": ("none", RED), "1": ("one", GREEN), "2": ("two", GREEN)},
                width=8,
            ),
            states(
                "Replicas that commits wait for",
                Query(_most("postorder_replicas_synchronous"), "{{shard}}"),
                about="0: what is acknowledged is on one server.",
                words={"0": ("none", YELLOW), "1": ("one", GREEN), "2": ("two", GREEN)},
                width=8,
            ),
        ],
    )


def _lag() -> Row:
    return Row(
        "Replication",
        [
            graph(
                "Lag of the replica furthest behind",
                Query(_most("postorder_replica_lag_seconds"), "{{shard}}"),
                about="How long it takes to replay a commit. A ticket above 10 s.",
                unit="s",
                steps=((10, YELLOW),),
                width=8,
            ),
            graph(
                "WAL not replayed",
                Query(_most("postorder_replica_lag_bytes"), "{{shard}}"),
                about="A ticket above 256 MiB.",
                unit="bytes",
                steps=((256 * _MB, YELLOW),),
                width=8,
            ),
            graph(
                "Transactions",
                Query(p(0.5, "postorder_write_seconds", where=SHARD, by="shard"), "{{shard}} median"),
                Query(p(0.99, "postorder_write_seconds", where=SHARD, by="shard"), "{{shard}} p99"),
                about="From BEGIN to the replica's answer.",
                unit="s",
                width=8,
            ),
        ],
    )


def _shares() -> Row:
    return Row(
        "Shares",
        [
            graph(
                "Events by shard",
                Query(f"sum by (shard) (postorder:shard_events:per_second{{{SHARD}}})", "{{shard}}"),
                about="Events settled in a second, over 5 minutes.",
                unit="ops",
                stacked=True,
                width=8,
            ),
            graph(
                "Skew",
                Query(f"postorder:shard_skew:ratio{{{SHARD}}}", "{{shard}}"),
                about="A shard's share of the events over its share of the slots: 1 where the ring is fair. "
                "A ticket above 1.5.",
                steps=((1.5, YELLOW),),
                width=8,
            ),
            graph(
                "Slots",
                Query(_most("postorder_slots_owned"), "{{shard}}"),
                about="Of 4096, by the map in force.",
                stacked=True,
                width=8,
            ),
        ],
    )


def _connections() -> Row:
    where = f'{SHARD}, state="used"'
    used = f"postorder_connections{{{where}}} / ignoring (state) postorder_connections_max{{{SHARD}}}"
    return Row(
        "Connections",
        [
            graph(
                "The fullest pool",
                Query(f"max by (shard, server) ({used})", "{{shard}} {{server}}"),
                about="Connections in use, of storage.connections_max; of the process that uses most. A "
                "ticket above 90 %.",
                unit="percentunit",
                top=1,
                steps=((0.9, YELLOW),),
            ),
            graph(
                "All processes together",
                Query(f"sum by (shard, server) (postorder_connections{{{SHARD}}})", "{{shard}} {{server}}"),
                about="Used and idle. What PostgreSQL's max_connections has to have room for.",
            ),
        ],
    )


def _contents() -> Row:
    return Row(
        "What the tables hold",
        [
            graph(
                "Messages due",
                Query(
                    "sum by (shard) (max by (namespace, shard, channel) "
                    f"(postorder_due_messages{{{SHARD}}}))",
                    "{{shard}}",
                ),
                about="Due and not claimed, 100,000 at most.",
                width=8,
            ),
            graph(
                "Held in quarantine",
                Query(_most("postorder_quarantine_held"), "{{shard}}"),
                about="Deliveries that nobody has dealt with.",
                width=8,
            ),
            graph(
                "Missing in the tables",
                Query(f"max by (ledger) (postorder_ledger_difference{{{NS}}})", "{{ledger}}"),
                about="Over all shards. 0 when all is well.",
                width=8,
            ),
        ],
    )
