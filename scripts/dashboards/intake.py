"""From the broker to the shards: what comes in, what becomes of it, and where it waits."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.boards import board
from dashboards.panels import (
    BAD_ABOVE_ZERO,
    NS,
    RED,
    SHARD,
    YELLOW,
    Query,
    Row,
    graph,
    heat,
    increase,
    number,
    p,
    rate,
)


def intake() -> Dashboard:
    """Return the dashboard of intake."""
    rows = [_events(), _latency(), _batches(), _buffers(), _not_stored()]
    about = "Flow one: deliveries, events, batches, transactions, buffers, and what was not stored."
    return board("intake", "intake", rows, about=about, variables=("shard",))


def _events() -> Row:
    return Row(
        "Events",
        [
            graph(
                "Taken in, by type",
                Query(rate("postorder_events_received_total", by="type"), "{{type}}"),
                about="Events in a second. quarantine: what was no valid event.",
                unit="ops",
                stacked=True,
            ),
            graph(
                "Settled, by outcome",
                Query(rate("postorder_events_total", by="outcome"), "{{outcome}}"),
                about="Events in a second. duplicates are acknowledged and counted, not stored again.",
                unit="ops",
                stacked=True,
            ),
        ],
    )


def _latency() -> Row:
    histogram = "postorder_publish_to_committed_seconds"
    return Row(
        "From publishing to commit",
        [
            graph(
                "Percentiles",
                *(
                    Query(p(quantile, histogram), f"p{quantile * 100:g}")
                    for quantile in (0.5, 0.9, 0.99, 0.999)
                ),
                about="From the event's own time to its commit on primary and replica. Objective: 99.9 % "
                "within 1 s. Events published with an old time count as late.",
                unit="s",
                steps=((1, RED),),
            ),
            heat("Spread", histogram, about="How many events took how long."),
        ],
    )


def _batches() -> Row:
    cpu = f"rate(process_cpu_seconds_total{{{NS}}}[$__rate_interval])"
    return Row(
        "Batches and transactions",
        [
            graph(
                "Why batches were closed",
                Query(rate("postorder_batches_total", by="trigger"), "{{trigger}}"),
                about="Batches in a second. size: full; timeout: the linger time was over; flush: draining, "
                "or halves of a batch that was refused. Mostly size: intake is at its limit.",
                unit="ops",
                width=8,
            ),
            graph(
                "What became of them",
                Query(rate("postorder_batches_total", by="outcome"), "{{outcome}}"),
                about="durable is what should be. refused: PostgreSQL takes a row never; failed: again; "
                "shard_away: parked; moved: the shard does not own the slots any more, they follow.",
                unit="ops",
                width=8,
            ),
            graph(
                "Events in a batch",
                Query(
                    f"{rate('postorder_batch_events_sum')} / ({rate('postorder_batch_events_count')} > 0)",
                    "mean",
                ),
                Query(p(0.99, "postorder_batch_events"), "p99"),
                about="Larger batches cost less for each event. At most intake.batch_max.",
                width=8,
            ),
            graph(
                "Transactions, 99th percentile",
                Query(p(0.99, "postorder_write_seconds", where=SHARD, by="shard"), "{{shard}}"),
                about="From BEGIN to the replica's answer, tries again included.",
                unit="s",
            ),
            graph(
                "CPU for an event",
                Query(
                    f"sum({cpu} and on (namespace, instance) postorder_consuming{{{NS}}})"
                    f" / ({rate('postorder_events_total')} > 0)",
                    "CPU",
                ),
                about="Of the processes that consume, everything they do included. "
                "docs/explanation/performance.md has what to expect.",
                unit="s",
            ),
        ],
    )


def _buffers() -> Row:
    fill = f"sum(postorder_buffered_events{{{NS}}}) / (sum(postorder_buffer_events_max{{{NS}}}) > 0)"
    window = (
        f"sum by (queue) (postorder_open_deliveries{{{NS}}}) "
        f"/ (sum by (queue) (postorder_prefetch_deliveries{{{NS}}}) > 0)"
    )
    return Row(
        "What is held",
        [
            number(
                "Readers paused",
                Query(f"sum(postorder_intake_paused{{{NS}}}) or vector(0)"),
                about="Processes that read nothing because intake.buffer_events_max events are in memory.",
                steps=((1, YELLOW),),
            ),
            number(
                "Oldest event",
                Query(f"max(postorder_oldest_event_seconds{{{NS}}})"),
                about="How long the event that waits longest for its batch has waited.",
                unit="s",
                steps=((1, YELLOW), (5, RED)),
            ),
            graph(
                "Buffer",
                Query(fill, "of intake.buffer_events_max"),
                about="Events between broker and shards, of what may be held at most.",
                unit="percentunit",
                top=1,
                width=8,
            ),
            graph(
                "Prefetch window",
                Query(window, "{{queue}}"),
                about="Deliveries held unsettled, of what consumers may hold. Full with idle CPU: raise "
                "amqp.prefetch; full with busy shards: they are the limit.",
                unit="percentunit",
                top=1,
                width=8,
            ),
            graph(
                "Lanes",
                Query(f"sum by (shard) (postorder_lane_events{{{SHARD}}})", "{{shard}}"),
                about="Events that wait for a batch of their shard. One lane alone: that shard is slow or "
                "away.",
                width=24,
                height=6,
            ),
        ],
    )


def _not_stored() -> Row:
    return Row(
        "What was not stored",
        [
            graph(
                "Quarantined, by reason",
                Query(
                    increase("postorder_quarantined_total", by="reason"),
                    "{{reason}}",
                ),
                about="Events kept with a reason code: docs/how-to/look-into-quarantine.md. Conflicts of "
                "identity are among the settled events alone.",
                width=8,
            ),
            number(
                "Held in quarantine",
                Query(f"sum(max by (namespace, shard) (postorder_quarantine_held{{{NS}}})) or vector(0)"),
                about="Deliveries that nobody has dealt with.",
                steps=((1, YELLOW),),
                height=8,
            ),
            graph(
                "Parked, by shard",
                Query(rate("postorder_parked_total", where=SHARD, by="shard"), "{{shard}}"),
                about="Events in a second given back to the broker, to return after 1, 5, 30 or 300 s.",
                unit="ops",
                width=6,
            ),
            graph(
                "Transactions to be repeated",
                Query(rate("postorder_write_failures_total", where=SHARD, by="shard"), "{{shard}}"),
                Query(
                    f"sum(postorder_shard_away{{{NS}}}) or vector(0)", "processes that know of a shard away"
                ),
                about="In a second. A few at a failover are as it should be.",
                unit="ops",
                width=6,
                steps=BAD_ABOVE_ZERO,
            ),
        ],
    )
