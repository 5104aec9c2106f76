"""The metrics of the rules of sending. Labels are bounded: channels, calling codes, fixed words."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class RuleMetrics:
    """What the rules count in a process that sends."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ruled = Counter(
            "postorder_messages_ruled",
            "Messages that a rule held back or refused",
            ["channel", "rule"],
            registry=registry,
        )  # rule: the code that the ledger has
        self.opt_outs = Counter(
            "postorder_opt_outs",
            "Recipients taken off by what a provider or a bounce said",
            ["channel", "why"],
            registry=registry,
        )  # why: provider, bounce
        self.sms_segments = Counter(
            "postorder_sms_segments",
            "SMS segments accepted, or perhaps so",
            ["calling_code"],
            registry=registry,
        )
        self.spend_held = Gauge(
            "postorder_spend_held",
            "1 while SMS wait because the last hour's reached a limit; `all`: the one over all",
            ["calling_code"],
            registry=registry,
        )
