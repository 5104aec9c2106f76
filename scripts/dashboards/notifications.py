"""From the outbox to the providers: pools, limits, circuits, what nobody knows, and what it costs."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.boards import board
from dashboards.feedback import spend, what_comes_back
from dashboards.panels import (
    CHANNEL,
    GREEN,
    NS,
    RED,
    YELLOW,
    Query,
    Row,
    graph,
    increase,
    p,
    rate,
    states,
)

_SLOT = f'{NS}, slot=~"$slot"'


def notifications() -> Dashboard:
    """Return the dashboard of sending."""
    rows = [_out(), _due(), _providers(), _pools(), _unknown(), what_comes_back(), spend()]
    about = "Flow two: messages due, pools, providers, messages of unknown outcome, callbacks, spend."
    return board("notifications", "notifications", rows, about=about, variables=("channel", "slot"))


def _out() -> Row:
    return Row(
        "Messages",
        [
            graph(
                "Claims and receipts",
                Query(
                    rate("postorder_receipts_total", where=CHANNEL, by="channel, state"),
                    "{{channel}} {{state}}",
                ),
                Query(rate("postorder_claims_total", where=CHANNEL, by="channel"), "{{channel}} claimed"),
                about="Messages in a second that a provider accepted or refused, or of which nobody knows.",
                unit="ops",
                width=8,
            ),
            graph(
                "Failing",
                Query(f"max by (channel) (postorder:message_failed:ratio_5m{{{CHANNEL}}})", "{{channel}}"),
                about="Share of messages that failed, expired or are of unknown outcome, of 5 minutes. "
                "Somebody is woken above 5 %.",
                unit="percentunit",
                steps=((0.05, RED),),
                top=0.06,
                width=8,
            ),
            graph(
                "Owed to accepted, 99th percentile",
                Query(p(0.99, "postorder_created_to_accepted_seconds", by="kind"), "{{kind}}"),
                about="Objectives: 99 % of SMS within 10 s, of mails within 60 s. Order mails include the "
                "grace window.",
                unit="s",
                steps=((10, YELLOW), (60, RED)),
                width=8,
            ),
        ],
    )


def _due() -> Row:
    def due(metric: str, by: str = "channel") -> str:
        return f"max by (namespace, shard, {by}) ({metric}{{{CHANNEL}}})"

    return Row(
        "Waiting",
        [
            graph(
                "Due and not claimed",
                Query(f"sum by (channel) ({due('postorder_due_messages')})", "{{channel}}"),
                about="Of each shard 100,000 at most are counted.",
                width=8,
            ),
            graph(
                "Oldest of them",
                Query(f"max by (channel) ({due('postorder_oldest_due_seconds')})", "{{channel}}"),
                about="For how long it has been due. Quiet hours and limits put the time off at which a "
                "message is due.",
                unit="s",
                width=8,
            ),
            graph(
                "Committed to claimed, 99th percentile",
                Query(p(0.99, "postorder_committed_to_claimed_seconds", by="kind"), "{{kind}}"),
                about="Order mails include the grace window.",
                unit="s",
                width=8,
            ),
        ],
    )


def _providers() -> Row:
    circuit = {"0": ("closed", GREEN), "1": ("being tried", YELLOW), "2": ("open", RED)}
    return Row(
        "Providers",
        [
            states(
                "Circuits",
                Query(f"max by (slot) (postorder_slot_circuit{{{_SLOT}}})", "{{slot}}"),
                about="Open: calls fail, the provider is left alone, one message tries after 2, 4 … 60 s.",
                words=circuit,
                width=8,
            ),
            graph(
                "Answers",
                Query(
                    rate("postorder_provider_answers_total", where=_SLOT, by="slot, outcome"),
                    "{{slot}} {{outcome}}",
                ),
                about="Calls in a second, by what they came to. account_refused: credentials or the "
                "account, not the message.",
                unit="ops",
                width=8,
                height=6,
            ),
            graph(
                "Time for an answer",
                Query(p(0.5, "postorder_provider_seconds", where=_SLOT, by="slot"), "{{slot}} median"),
                Query(p(0.99, "postorder_provider_seconds", where=_SLOT, by="slot"), "{{slot}} p99"),
                about="From the call to the reply.",
                unit="s",
                width=8,
                height=6,
            ),
            graph(
                "Calls at once",
                Query(f"sum by (slot) (postorder_slot_in_flight{{{_SLOT}}})", "{{slot}} under way"),
                Query(f"sum by (slot) (postorder_slot_limit{{{_SLOT}}})", "{{slot}} limit now"),
                Query(f"sum by (slot) (postorder_slot_ceiling{{{_SLOT}}})", "{{slot}} at most"),
                about="The limit halves when a provider refuses for load or times out, and grows again by "
                "ones.",
            ),
            graph(
                "Held back, by reason",
                Query(
                    rate("postorder_held_back_total", where=CHANNEL, by="channel, reason"),
                    "{{channel}} {{reason}}",
                ),
                about="Messages in a second given back without a call: a rate, Retry-After, an open "
                "circuit, no budget to try again.",
                unit="ops",
            ),
        ],
    )


def _pools() -> Row:
    return Row(
        "Pools",
        [
            graph(
                "Worked on",
                Query(f"sum by (channel) (postorder_sends_in_flight{{{CHANNEL}}})", "{{channel}} in flight"),
                Query(f"sum by (channel) (postorder_pool_ceiling{{{CHANNEL}}})", "{{channel}} ceiling"),
                Query(
                    f"sum by (channel) (postorder_pool_waiting{{{CHANNEL}}})",
                    "{{channel}} claimed, not begun",
                ),
                about="Messages looked up, composed, or in their call.",
                width=8,
            ),
            graph(
                "Open receipts",
                Query(f"sum by (channel) (postorder_open_receipts{{{CHANNEL}}})", "{{channel}}"),
                Query(increase("postorder_stale_receipts_total", where=CHANNEL), "of claims that were lost"),
                about="Answered by a provider, not yet durable. Growing: a shard does not take them.",
                width=8,
            ),
            graph(
                "Tries again that may be made",
                Query(f"min by (channel) (postorder_retry_budget{{{CHANNEL}}})", "{{channel}}"),
                about="Of the process that has fewest. 0: nothing is tried again, only first tries are made.",
                width=8,
            ),
        ],
    )


def _unknown() -> Row:
    def worst(metric: str) -> str:
        return f"max by (namespace, shard, channel) ({metric}{{{CHANNEL}}})"

    return Row(
        "Unknown outcome",
        [
            graph(
                "Messages",
                Query(f"sum by (channel) ({worst('postorder_unknown_effects')})", "{{channel}}"),
                about="Nobody knows whether the provider accepted them: a reply was lost, or a process died.",
                width=8,
                steps=((1, YELLOW),),
            ),
            graph(
                "Oldest",
                Query(f"max by (channel) ({worst('postorder_unknown_oldest_seconds')})", "{{channel}}"),
                about="Since when it is owed. A ticket after an hour.",
                unit="s",
                width=8,
                steps=((3600, YELLOW),),
            ),
            graph(
                "Asked about",
                Query(
                    increase("postorder_inquiries_total", where=CHANNEL, by="channel, outcome"),
                    "{{channel}} {{outcome}}",
                ),
                about="Answers of providers to whether they have a message. cannot_tell again and again: a "
                "person decides.",
                width=8,
            ),
        ],
    )
