"""RabbitMQ, as the pipeline sees it, and as it sees itself."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.boards import board
from dashboards.panels import BAD_ABOVE_ZERO, NS, RED, YELLOW, Query, Row, graph, increase, number, rate

_RETRY = 'queue=~"retry.*"'
_LIVE = 'queue!~"retry.*"'


def broker() -> Dashboard:
    """Return the dashboard of the broker."""
    about = (
        "Queues, consumers, deliveries and connections; below, the broker's own metrics where it is scraped."
    )
    return board("broker", "broker", [_seen(), _flow(), _own()], about=about)


def _most(metric: str, where: str) -> str:
    return f"max by (namespace, queue) ({metric}{{{where}, {NS}}})"


def _ready(where: str) -> str:
    return _most("postorder_queue_messages", where)


def _seen() -> Row:
    return Row(
        "Queues",
        [
            number(
                "Broker reached",
                Query(f"max(postorder_broker_up{{{NS}}})"),
                about="By the process that has most luck.",
                words={"0": ("no", RED), "1": ("yes", "green")},
            ),
            number(
                "Queues without a consumer",
                Query(f"count({_most('postorder_queue_consumers', _LIVE)} == 0) or vector(0)"),
                about="Rungs of the retry ladder have none, and need none.",
                steps=BAD_ABOVE_ZERO,
            ),
            number(
                "Ready",
                Query(f"sum({_ready(_LIVE)})"),
                about="Messages ready for delivery, but for those that rest on the retry ladder.",
                spark=True,
            ),
            number(
                "On the retry ladder",
                Query(f"sum({_ready(_RETRY)}) or vector(0)"),
                about="Parked, to return by themselves after 1, 5, 30 or 300 s: a shard was away or slow.",
                steps=((1, YELLOW),),
            ),
            number(
                "Connections made anew",
                Query(increase("postorder_amqp_reconnects_total", over="1h")),
                about="In the last hour.",
                steps=((1, YELLOW),),
            ),
            number(
                "Sessions",
                Query(f"sum(postorder_consuming{{{NS}}})"),
                about="Of processes with queues.",
            ),
            graph("Ready, by queue", Query(_ready(_LIVE), "{{queue}}"), about="Messages ready for delivery."),
            graph(
                "Retry ladder, by rung",
                Query(_ready(_RETRY), "{{queue}}"),
                about="The rung's number is how many seconds a message rests there.",
            ),
        ],
    )


def _flow() -> Row:
    return Row(
        "Deliveries",
        [
            graph(
                "Taken",
                Query(rate("postorder_deliveries_total", by="queue"), "{{queue}}"),
                about="Deliveries in a second, redeliveries included.",
                unit="ops",
                width=8,
            ),
            graph(
                "Held unsettled",
                Query(f"sum by (queue) (postorder_open_deliveries{{{NS}}})", "{{queue}}"),
                about="Deliveries taken and not yet acknowledged.",
                width=8,
            ),
            graph(
                "Consumers",
                Query(f"max by (namespace, queue) (postorder_queue_consumers{{{NS}}})", "{{queue}}"),
                about="As the broker counts them.",
                width=8,
            ),
        ],
    )


def _own() -> Row:
    used = f"rabbitmq_process_resident_memory_bytes{{{NS}}} / rabbitmq_resident_memory_limit_bytes{{{NS}}}"
    return Row(
        "The broker's own (port 15692, plugin rabbitmq_prometheus)",
        [
            number(
                "Memory alarm",
                Query(f"max(rabbitmq_alarms_memory_used_watermark{{{NS}}})"),
                about="1: publishers are blocked until memory is free.",
                steps=BAD_ABOVE_ZERO,
            ),
            number(
                "Disk alarm",
                Query(f"max(rabbitmq_alarms_free_disk_space_watermark{{{NS}}})"),
                about="1: publishers are blocked until disk is free.",
                steps=BAD_ABOVE_ZERO,
            ),
            number(
                "Connections",
                Query(f"sum(rabbitmq_connections{{{NS}}})"),
                about="Of all clients.",
            ),
            number(
                "Disk left",
                Query(f"min(rabbitmq_disk_space_available_bytes{{{NS}}})"),
                about="On the node that has least.",
                unit="bytes",
            ),
            number(
                "Memory",
                Query(f"max({used})"),
                about="Of the limit at which publishers are blocked; the worst node.",
                unit="percentunit",
                steps=((0.8, YELLOW), (1, RED)),
            ),
            number(
                "Nodes",
                Query(f"count(rabbitmq_build_info{{{NS}}})"),
                about="That are scraped.",
            ),
            graph(
                "Messages",
                Query(rate("rabbitmq_global_messages_received_total"), "published"),
                Query(rate("rabbitmq_global_messages_confirmed_total"), "confirmed"),
                Query(rate("rabbitmq_global_messages_delivered_total"), "delivered"),
                Query(rate("rabbitmq_global_messages_acknowledged_total"), "acknowledged"),
                Query(rate("rabbitmq_global_messages_redelivered_total"), "redelivered"),
                about="In a second, of all queues. Redelivered that stays above 0: consumers die or time "
                "out.",
                unit="ops",
                width=24,
            ),
        ],
    )
