"""Is all well? What an operator looks at first."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.boards import board
from dashboards.panels import BAD_ABOVE_ZERO, NS, RED, YELLOW, Query, Row, graph, number, p, rate, rows_of

_PHASES = {
    "published to committed": "postorder_publish_to_committed_seconds",
    "committed to claimed": "postorder_committed_to_claimed_seconds",
    "claimed to accepted": "postorder_claimed_to_accepted_seconds",
    "accepted to delivered": "postorder_accepted_to_delivered_seconds",
}
_KPIS = {"orders": "Orders", "invoices": "Invoices", "sms": "SMS", "mails": "Mails"}


def overview() -> Dashboard:
    """Return the overview."""
    rows = [_well(), _kpis(), _latency(), _waiting(), _balance()]
    about = "The four KPIs, latency by phase, the work that waits, and whether the numbers add up."
    return board("overview", "overview", rows, about=about)


def _well() -> Row:
    firing = f'ALERTS{{alertname=~"Postorder.*", alertstate="firing", {NS}}}'
    unknown = f"max by (namespace, shard, channel) (postorder_unknown_effects{{{NS}}})"
    return Row(
        "Is all well?",
        [
            number(
                "Alerts firing",
                Query(f"count({firing}) or vector(0)"),
                about="Each has a runbook of its name in docs/how-to/alerts/. The table below names them.",
                steps=BAD_ABOVE_ZERO,
            ),
            number(
                "Processes up",
                Query(f'count(up{{job=~"(.*/)?postorder", {NS}}} == 1) or vector(0)'),
                about="Processes of Postorder that Prometheus reaches.",
            ),
            number(
                "Processes not ready",
                Query(f"count(postorder_ready{{{NS}}} == 0) or vector(0)"),
                about="/readyz of each says why: starting, draining, no session with the broker, no primary.",
                steps=((1, YELLOW),),
            ),
            number(
                "Shards without a primary",
                Query(f"count(max by (namespace, shard) (postorder_primary_up{{{NS}}}) == 0) or vector(0)"),
                about="Their events are parked at the broker; the other shards go on.",
                steps=BAD_ABOVE_ZERO,
            ),
            number(
                "Work waiting",
                Query(f"max(postorder:work:seconds{{{NS}}})"),
                about="Seconds of work at the worst bottleneck. A ticket above 60 s, a page above 600 s.",
                unit="s",
                steps=((60, YELLOW), (600, RED)),
            ),
            number(
                "Messages of unknown outcome",
                Query(f"sum({unknown}) or vector(0)"),
                about="A provider may have accepted them, or not. They are asked about by themselves; what "
                "is left after an hour waits for a person.",
                steps=((1, YELLOW),),
            ),
        ],
    )


def _kpis() -> Row:
    numbers = [
        number(
            f"{title} per minute",
            Query(f'sum(postorder:kpi:per_minute{{kpi="{kpi}", {NS}}}) or vector(0)'),
            about="Stored on primary and replica, over the last minute."
            if kpi in ("orders", "invoices")
            else "Accepted by a provider, over the last minute.",
            width=6,
            spark=True,
        )
        for kpi, title in _KPIS.items()
    ]
    return Row(
        "The four KPIs",
        [
            *numbers,
            graph(
                "The four KPIs, per minute",
                Query(f"sum by (kpi) (postorder:kpi:per_minute{{{NS}}})", "{{kpi}}"),
                about="Orders and invoices stored, SMS and mails accepted. SMS and mails follow orders; a "
                "gap that stays is work that waits or messages that fail.",
            ),
            graph(
                "How fast the budgets of the objectives burn",
                Query(f"max(postorder:commit_slow:ratio_1h{{{NS}}}) / 0.001", "commits within 1 s: 99.9 %"),
                Query(
                    f"max by (kind) (postorder:message_slow:ratio_1h{{{NS}}}) / 0.01",
                    "{{kind}} in time: 99 %",
                ),
                about="Over the last hour. 1 uses up a month's budget in a month; at 14.4 somebody is woken.",
                steps=((14.4, RED),),
            ),
        ],
    )


def _latency() -> Row:
    def lines(quantile: float) -> list[Query]:
        return [Query(p(quantile, histogram), phase) for phase, histogram in _PHASES.items()]

    about = (
        "The way of an event: published, committed on primary and replica, its message claimed, accepted by "
        "the provider, delivered. Order mails wait for their invoice between committed and claimed (5 s)."
    )
    return Row(
        "Latency by phase",
        [
            graph("Median", *lines(0.5), about=about, unit="s"),
            graph("99th percentile", *lines(0.99), about=about, unit="s"),
        ],
    )


def _waiting() -> Row:
    return Row(
        "Work waiting",
        [
            graph(
                "Seconds of work waiting",
                Query(f"max by (bottleneck) (postorder:work:seconds{{{NS}}})", "{{bottleneck}}"),
                about="What waits, over what the stage can do in a second: intake (broker), shards (lanes), "
                "sms, email.",
                unit="s",
                steps=((60, YELLOW), (600, RED)),
            ),
            graph(
                "What waits",
                Query(f"max by (bottleneck) (postorder_backlog{{{NS}}})", "{{bottleneck}}"),
                about="Messages ready at the broker, events in the fullest lane, messages due.",
                width=6,
            ),
            graph(
                "What each stage can do",
                Query(f"max by (bottleneck) (postorder_capacity_per_second{{{NS}}})", "{{bottleneck}}"),
                about="Measured while the stage was at its limit, in a second.",
                unit="ops",
                width=6,
            ),
        ],
    )


def _balance() -> Row:
    return Row(
        "Does it add up?",
        [
            graph(
                "Missing in the tables",
                Query(f"max by (ledger) (postorder_ledger_difference{{{NS}}})", "{{ledger}}"),
                about="events: taken in - stored - duplicates - quarantined; effects: owed - settled - "
                "open. 0 when all is well; counted by one process at a time, every ops.ledger_check_s.",
                width=6,
            ),
            graph(
                "Since the last count",
                Query(f"time() - max(postorder_ledger_checked_timestamp_seconds{{{NS}}} > 0)", "age"),
                about="A ticket after an hour.",
                unit="s",
                width=6,
                steps=((3600, YELLOW),),
            ),
            graph(
                "In and out, in a second",
                Query(rate("postorder_events_received_total"), "taken in"),
                Query(rate("postorder_events_total", or_zero=True), "settled"),
                Query(rate("postorder_parked_total", or_zero=True), "parked"),
                about="Taken in = settled + parked, but for what is in memory at the moment.",
                unit="ops",
            ),
            rows_of(
                "Alerts",
                Query(f'ALERTS{{alertname=~"Postorder.*", {NS}}}'),
                about="Firing, and pending (the condition holds, but not yet for long enough). Runbooks: "
                "docs/how-to/alerts/NAME.md.",
                columns={
                    "alertname": "alert",
                    "alertstate": "state",
                    "severity": "severity",
                    "shard": "shard",
                    "queue": "queue",
                    "channel": "channel",
                    "slot": "provider",
                    "instance": "process",
                },
                width=24,
            ),
        ],
    )
