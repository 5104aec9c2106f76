"""Settings of flow one: the broker and intake."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Count, Seconds, about


class AmqpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker."""

    url: Annotated[str, about("amqp(s)://user@host:port/vhost, without the password")] = (
        "amqp://guest@127.0.0.1:5672/"
    )
    password: Annotated[str, about("a secret")] = ""
    reader: Annotated[
        Literal["lean", "aio-pika"],
        about("what reads deliveries: our own protocol, or the library at twenty times the CPU"),
    ] = "lean"
    prefetch: Annotated[Count, about("deliveries a consumer holds unacknowledged at most")] = 4000
    heartbeat_s: Annotated[
        Annotated[int, Meta(ge=1, le=600)], about("a silent peer is noticed after about three times this")
    ] = 5
    connect_timeout_s: Annotated[Seconds, about("for connecting and for each request")] = 5.0
    publish_timeout_s: Annotated[Seconds, about("without a confirm in this time, a publish is unknown")] = 5.0
    publish_give_up_s: Annotated[Seconds, about("an unconfirmed publish is repeated for this long")] = 60.0
    publish_window: Annotated[Count, about("publishes awaiting their confirm at most")] = 500


class IntakeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the broker into the shards."""

    batch_max: Annotated[Count, about("events in one transaction at most")] = 500
    batch_linger_ms: Annotated[
        Annotated[float, Meta(ge=0, le=10_000)], about("how long a small batch waits for company")
    ] = 5.0
    batches_in_flight: Annotated[Count, about("transactions at once on one shard")] = 2
    buffer_events_max: Annotated[
        Count, about("events held in memory; above it nothing is read, until half of it is settled")
    ] = 20_000
    park_after_s: Annotated[
        Seconds, about("events that a shard does not take in this time go back to the broker for a while")
    ] = 2.0
    attempts_max: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        about("an event that fails alone, on a shard that works, goes to quarantine after this many"),
    ] = 8
    message_bytes_max: Annotated[Count, about("a larger delivery goes to quarantine")] = 1_000_000
    message_events_max: Annotated[Count, about("a batch with more events goes to quarantine")] = 1000
    document_bytes_max: Annotated[Count, about("an inline invoice document, decoded, at most")] = 524_288
    document_hosts: Annotated[
        tuple[str, ...], about("host or host:port that invoice URLs may name; others go to quarantine")
    ] = ()
