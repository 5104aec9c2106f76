"""The metrics of the rules of sending. Labels are bounded: channels, calling codes, fixed words."""

from pipeline.observability.registry import MetricRegistry


class RuleMetrics:
    """What the rules count in a process that sends."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Messages")
        self.ruled = registry.counter(
            "postorder_messages_ruled",
            "Messages that a rule held back or refused",
            "channel",
            "rule",
        )  # rule: the code that the ledger has
        self.opt_outs = registry.counter(
            "postorder_opt_outs",
            "Recipients taken off by what a provider or a bounce said",
            "channel",
            "why",
        )  # why: provider, bounce
        self.sms_segments = registry.counter(
            "postorder_sms_segments", "SMS segments accepted, or perhaps so", "calling_code"
        )
        self.spend_held = registry.gauge(
            "postorder_spend_held",
            "1 while SMS wait because the last hour's reached a limit; `all`: the one over all",
            "calling_code",
        )
