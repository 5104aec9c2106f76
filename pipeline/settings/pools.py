"""Settings of the pools: how much is sent at once, how fast, and when a provider is left alone."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Count, Seconds, about

Rate = Annotated[float, Meta(ge=0, le=1_000_000)]


class SlotSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider as the pools see it: what every section of a provider has."""

    weight: Annotated[
        Annotated[int, Meta(ge=0, le=100)],
        about("share of the messages, relative; 0: only while the other provider cannot be used"),
    ] = 1
    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=1000)], about("calls at once at most; fewer when the provider is slow")
    ] = 64
    concurrency_min: Annotated[
        Annotated[int, Meta(ge=1, le=1000)], about("calls at once however slow the provider is")
    ] = 4
    rate_per_s: Annotated[
        Rate, about("messages in a second through this provider, all processes together; 0: no limit")
    ] = 0.0
    timeout_s: Annotated[Seconds, about("for an answer; without one, a message is unknown")] = 10.0
    sender_rate_per_s: Annotated[
        Rate, about("messages in a second from one sender, through whichever provider; 0: no limit")
    ] = 0.0


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the pools of both channels push back."""

    wait_max_s: Annotated[
        Seconds, about("a message waits in the pool for a rate limit no longer; then it goes back")
    ] = 1.0
    sms_per_recipient_minute: Annotated[Rate, about("SMS to one number in a minute; 0: no limit")] = 0.0
    email_per_recipient_minute: Annotated[Rate, about("mails to one address in a minute; 0: no limit")] = 0.0
    recipients_max: Annotated[Count, about("recipients whose rate is kept in mind, for each channel")] = (
        10_000
    )
    latency_rise: Annotated[
        Annotated[float, Meta(ge=1.1, le=100)],
        about("fewer calls at once when the median answer takes so many times as long as it used to"),
    ] = 2.0
    latency_tolerance_ms: Annotated[
        Annotated[float, Meta(ge=0, le=60_000)], about("and so much longer besides")
    ] = 100.0
    breaker_failure_ratio: Annotated[
        Annotated[float, Meta(gt=0, le=1)], about("share of failed calls at which a provider is left alone")
    ] = 0.5
    breaker_calls_min: Annotated[Count, about("of at least so many calls")] = 10
    breaker_window_s: Annotated[Seconds, about("in so long")] = 30.0
    breaker_open_s: Annotated[Seconds, about("left alone for so long, then tried with one message")] = 2.0
    breaker_open_max_s: Annotated[
        Seconds, about("twice as long each time that fails, up to this; at once when the account is refused")
    ] = 60.0
    retry_share: Annotated[
        Annotated[float, Meta(ge=0, le=1)],
        about("tries again at most, as a share of first tries in the last minute, unless they succeed"),
    ] = 0.2
    retries_per_minute_min: Annotated[Count, about("and so many besides, for quiet times")] = 6
