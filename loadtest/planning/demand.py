"""What is asked of an installation."""

import msgspec

from pipeline.errors import SettingsError

EVENTS_PER_MESSAGE_MAX = 1000
"""`intake.message_events_max`: a message with more goes to quarantine."""

SEGMENTS_MAX = 10
"""`sms.segments_max` at most."""
ORDERS_PER_S_MAX = 1e8
"""Ten times the design's largest reading; what is above it is a slip of the pen."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """A load at its peak, and what is to be true under it. Shares are of orders, 0 to 1.

    `data_bytes` is what all primaries hold together, indexes included; 0: not planned. `late_share` is the
    share of invoices that come after the grace window and so get a mail of their own. `p99_s` is the time
    from publish to committed on primary and replica that 99 % of events keep to. `backlog_s` is how long a
    backlog gathers before it is drained.
    """

    orders_per_s: float
    p99_s: float = 1.0
    data_bytes: float = 0.0
    invoice_share: float = 1.0
    sms_share: float = 1.0
    mail_share: float = 1.0
    late_share: float = 0.1
    segments_per_sms: float = 1.0
    events_per_message: int = 1
    grace_window_s: float = 5.0
    backlog_s: float = 1800.0

    def __post_init__(self) -> None:
        if not 0 < self.orders_per_s <= ORDERS_PER_S_MAX:
            raise SettingsError(
                [f"--orders-per-s: above 0 and at most {ORDERS_PER_S_MAX:,.0f}, not {self.orders_per_s:g}"]
            )
        if not 1 <= self.events_per_message <= EVENTS_PER_MESSAGE_MAX:
            raise SettingsError(
                [f"--events-per-message: 1 to {EVENTS_PER_MESSAGE_MAX}, not {self.events_per_message}"]
            )
        if not 1 <= self.segments_per_sms <= SEGMENTS_MAX:
            raise SettingsError(
                [f"--segments: an SMS has 1 to {SEGMENTS_MAX}, not {self.segments_per_sms:g}"]
            )

    @property
    def invoices_per_s(self) -> float:
        """Invoice events."""
        return self.orders_per_s * self.invoice_share

    @property
    def events_per_s(self) -> float:
        """Order and invoice events together."""
        return self.orders_per_s + self.invoices_per_s

    @property
    def sms_per_s(self) -> float:
        """SMS owed."""
        return self.orders_per_s * self.sms_share

    @property
    def mails_per_s(self) -> float:
        """Mails owed: of orders, and of invoices that come late."""
        return (self.orders_per_s + self.invoices_per_s * self.late_share) * self.mail_share
