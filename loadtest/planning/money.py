"""What a plan costs, by prices that are given."""

import msgspec

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.demand import Demand
from loadtest.planning.sending import SmsPlan

HOURS_OF_MONTH = 730


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """In the currency of the prices. Messages are for one hour at the peak."""

    currency: str
    machines_hour: float
    machines_month: float
    senders_month: float
    sms_hour: float
    mails_hour: float


def money_for(demand: Demand, given: Assumptions, machines: int, sms: SmsPlan) -> Money:
    """Return the sums."""
    prices = given.prices
    hour = machines * prices.machine_hour
    return Money(
        currency=prices.currency,
        machines_hour=hour,
        machines_month=hour * HOURS_OF_MONTH,
        senders_month=sms.senders * prices.sender_month,
        sms_hour=demand.sms_per_s * demand.segments_per_sms * 3600 * prices.sms_segment,
        mails_hour=demand.mails_per_s * 3600 * prices.mails_1000 / 1000,
    )
