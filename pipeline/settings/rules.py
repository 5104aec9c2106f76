"""Settings of what may be sent, to whom, and when."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import about

Limit = Annotated[int, Meta(ge=0, le=1_000_000_000)]
LocalTime = Annotated[str, Meta(pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")]
Country = Annotated[str, Meta(pattern=r"\A([A-Z]{2}|001)\Z")]


class RuleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules of sending. A limit of 0 is none."""

    sms_day_max: Annotated[Limit, about("SMS to one number in a day (UTC); more wait for the next")] = 0
    email_day_max: Annotated[Limit, about("mails to one address in a day (UTC); more wait for the next")] = 0
    quiet_from: Annotated[LocalTime, about("when it gets quiet where the recipient is")] = "21:00"
    quiet_until: Annotated[LocalTime, about("until when messages then wait")] = "08:00"
    quiet_kinds: Annotated[
        tuple[Literal["order_sms", "order_email", "invoice_email"], ...],
        about("kinds of messages that keep quiet hours; none by default: what was ordered is told at once"),
    ] = ()
    sms_countries: Annotated[
        tuple[Country, ...],
        about("ISO 3166 codes of countries that SMS may go to, 001 for numbers of none; empty: all"),
    ] = ()
    spend_segments_per_hour: Annotated[Limit, about("SMS segments in an hour, over all; more wait")] = 0
    spend_segments_per_country_hour: Annotated[
        Limit, about("SMS segments in an hour to one country calling code; more wait")
    ] = 0
    spend_segments_per_prefix_hour: Annotated[
        Limit, about("SMS segments in an hour to numbers with the same first 7 digits, from one process")
    ] = 0
