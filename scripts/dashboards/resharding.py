"""Slots on their way from shard to shard."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.boards import board, words
from dashboards.panels import BAD_ABOVE_ZERO, NS, RED, YELLOW, Query, Row, graph, number, p, rate

_MOVED = f'outcome="moved", {NS}'


def resharding() -> Dashboard:
    """Return the dashboard of a change of shards."""
    about = "What a change of shards has done, and what events notice of it."
    return board("resharding", "resharding", [_move(), _noticed()], about=about)


def _move() -> Row:
    flipped = f"sum(postorder_reshard_slots_flipped{{{NS}}})"
    return Row(
        "The move",
        [
            words(
                "Panels of a move are of the command that moves: `postorder shards add shard2 --metrics-port "
                "9470`, with that port among Prometheus' targets. See docs/explanation/moving-slots.md.",
                height=2,
            ),
            number(
                "Slots flipped",
                Query(f"{flipped} / (sum(postorder_reshard_slots{{{NS}}}) > 0)"),
                about="Of the slots of the move that is under way.",
                unit="percentunit",
            ),
            number(
                "Tables to copy",
                Query(f"sum(postorder_reshard_tables_copying{{{NS}}})"),
                about="Tables whose first copy is not finished.",
            ),
            number(
                "Waits for replicas",
                Query(f"max(postorder_reshard_waiting{{{NS}}})"),
                about="1 while the move waits until replicas are less than 64 MB and 5 s behind.",
                steps=((1, YELLOW),),
            ),
            number(
                "Moves completed",
                Query(f"sum(postorder_reshard_moves_total{{{NS}}})"),
                about="Of this change. Adding a shard is a move from each of the others.",
            ),
            number(
                "Longest pauses",
                Query(
                    f"histogram_quantile(0.99, sum by (le) (postorder_reshard_pause_seconds_bucket{{{NS}}}))"
                ),
                about="How long a group of slots took no writes, 99th percentile of the change.",
                unit="s",
                steps=((1, YELLOW), (5, RED)),
            ),
            number(
                "Slots that take no writes",
                Query(f"sum(max by (namespace, shard) (postorder_slots_leaving{{{NS}}})) or vector(0)"),
                about="Being handed over. Above 0 for two minutes: whoever did so is gone; resume or abort.",
                steps=BAD_ABOVE_ZERO,
            ),
            graph(
                "Slots by shard",
                Query(f"max by (namespace, shard) (postorder_slots_owned{{{NS}}})", "{{shard}}"),
                about="By the newest map that each process goes by.",
                stacked=True,
            ),
            graph(
                "Epoch of the map, by process",
                Query(f"max by (instance) (postorder_map_epoch{{{NS}}})", "{{instance}}"),
                about="A process whose epoch stays behind did not adopt the newest map.",
            ),
        ],
    )


def _noticed() -> Row:
    return Row(
        "What events notice",
        [
            graph(
                "Published to committed",
                Query(p(0.5, "postorder_publish_to_committed_seconds"), "median"),
                Query(p(0.99, "postorder_publish_to_committed_seconds"), "p99"),
                about="Events of a group that is being handed over wait for it.",
                unit="s",
                width=8,
            ),
            graph(
                "Batches that followed their slots",
                Query(rate("postorder_batches_total", where=_MOVED, or_zero=True), "moved"),
                Query(
                    rate("postorder_parked_total", or_zero=True),
                    "parked events",
                ),
                about="In a second. Written under an old map, refused, and brought to the new owner.",
                unit="ops",
                width=8,
            ),
            graph(
                "Events by shard",
                Query(rate("postorder_shard_events_total", by="shard"), "{{shard}}"),
                about="Settled in a second.",
                unit="ops",
                stacked=True,
                width=8,
            ),
            graph(
                "Lag of replicas",
                Query(f"max by (namespace, shard) (postorder_replica_lag_bytes{{{NS}}})", "{{shard}}"),
                about="A move waits while one is more than 64 MB behind.",
                unit="bytes",
                steps=((64 * 1024 * 1024, YELLOW),),
            ),
            graph(
                "Transactions, 99th percentile",
                Query(p(0.99, "postorder_write_seconds", by="shard"), "{{shard}}"),
                about="By the shard that was written to.",
                unit="s",
            ),
        ],
    )
