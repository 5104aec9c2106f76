"""What comes back from outside, and what SMS cost: rows of the dashboard of sending."""

from dashboards.panels import BAD_ABOVE_ZERO, CHANNEL, NS, Query, Row, graph, increase, number, p, rate


def what_comes_back() -> Row:
    """Return callbacks, what they say, and what follows from them."""
    return Row(
        "What comes back",
        [
            graph(
                "Accepted to delivered",
                Query(p(0.5, "postorder_accepted_to_delivered_seconds", by="channel"), "{{channel}} median"),
                Query(p(0.99, "postorder_accepted_to_delivered_seconds", by="channel"), "{{channel}} p99"),
                about="As the provider's callbacks tell it.",
                unit="s",
                width=8,
            ),
            graph(
                "Callbacks",
                Query(rate("postorder_callbacks_total", by="kind, outcome"), "{{kind}} {{outcome}}"),
                about="Requests in a second. not_genuine: a wrong token or base URL, or somebody who tries.",
                unit="ops",
                width=8,
            ),
            graph(
                "Time to answer a callback, 99th percentile",
                Query(p(0.99, "postorder_callback_seconds", by="kind"), "{{kind}}"),
                about="Durable where it has to be. Twilio waits 15 s.",
                unit="s",
                width=4,
            ),
            graph(
                "Callbacks under way",
                Query(f"sum by (instance) (postorder_callbacks_under_way{{{NS}}})", "{{instance}}"),
                about="Requests being answered; public.requests_max at most.",
                width=4,
            ),
            graph(
                "Status words",
                Query(rate("postorder_status_words_total", by="outcome"), "{{outcome}}"),
                about="What became of providers' words about messages. old: said before.",
                unit="ops",
                width=8,
            ),
            graph(
                "Held back or refused by rules",
                Query(
                    increase("postorder_messages_ruled_total", where=CHANNEL, by="channel, rule"),
                    "{{channel}} {{rule}}",
                ),
                about="Consent, STOP, bounces, caps, quiet hours, spend: docs/explanation/rules.md.",
                width=8,
            ),
            graph(
                "Recipients taken off",
                Query(
                    increase("postorder_opt_outs_total", where=CHANNEL, by="channel, why"),
                    "{{channel}} {{why}}",
                ),
                about="By what a provider or a bounce said.",
                width=8,
            ),
        ],
    )


def spend() -> Row:
    """Return what SMS cost."""
    return Row(
        "Spend",
        [
            graph(
                "SMS segments per minute",
                Query(
                    "60 * " + rate("postorder_sms_segments_total", by="calling_code"),
                    "+{{calling_code}}",
                ),
                about="What the provider bills: segments accepted, or perhaps so, by country.",
                width=18,
            ),
            number(
                "Countries held",
                Query(f"count(max by (calling_code) (postorder_spend_held{{{NS}}}) == 1) or vector(0)"),
                about="SMS wait because the last hour's reached a limit of rules.spend_….",
                width=6,
                height=8,
                steps=BAD_ABOVE_ZERO,
            ),
        ],
    )
