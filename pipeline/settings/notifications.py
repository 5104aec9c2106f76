"""Settings of flow two: the outbox, providers and documents."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Count, Seconds, about


class NotificationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the outbox to the providers."""

    grace_window_s: Annotated[
        Annotated[float, Meta(ge=0, le=86_400)], about("how long an order mail waits for its invoice")
    ] = 5.0
    contact_wait_s: Annotated[
        Seconds, about("how long a message waits for a customer who is not known yet")
    ] = 300.0
    message_lifetime_s: Annotated[Seconds, about("an unsent message expires after this")] = 86_400.0
    lease_s: Annotated[
        Seconds,
        about(
            "a claim not settled in this time becomes unknown; must be more than twice each provider's "
            "time-out and documents.timeout_s"
        ),
    ] = 60.0
    claim_max: Annotated[Count, about("messages claimed from one shard at once")] = 100
    poll_ms: Annotated[
        Annotated[float, Meta(ge=1, le=60_000)],
        about("between looks at an idle outbox while no news of it can be heard"),
    ] = 50.0
    sweep_interval_s: Annotated[Seconds, about("between looks for lost claims and left-behind invoices")] = (
        1.0
    )
    attempts_max: Annotated[
        Annotated[int, Meta(ge=1, le=100)], about("tries before a message has failed")
    ] = 8
    retry_base_s: Annotated[Seconds, about("bound of the first wait before another try")] = 1.0
    retry_ceiling_s: Annotated[Seconds, about("bound of every wait before another try")] = 300.0
    templates_dir: Annotated[
        str, about("a folder of templates that take the place of those shipped; empty: none")
    ] = ""
    default_locale: Annotated[
        str,
        Meta(pattern=r"\A[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*\Z", max_length=35),
        about("of messages whose recipient's language is unknown or has no templates"),
    ] = "en"
    time_zone: Annotated[str, about("IANA name; of the dates in messages")] = "UTC"
    public_name: Annotated[str, Meta(min_length=1, max_length=60), about("who the messages are from")] = (
        "Postorder Shop"
    )


class DocumentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Invoice documents given by URL."""

    timeout_s: Annotated[Seconds, about("for fetching one")] = 10.0
    allow_http: Annotated[bool, about("also http:// (for a host on loopback)")] = False
