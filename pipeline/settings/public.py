"""Settings of the public listener: what providers and recipients reach from outside."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Count, Port, Seconds, about


class PublicSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Callbacks of providers, texts from handsets, bounces and one-click unsubscribing."""

    host: Annotated[str, about("address of the listener")] = "127.0.0.1"
    port: Annotated[Port, about("its port; 0: no listener")] = 0
    base_url: Annotated[
        str,
        about(
            "scheme, host and path under which the listener is reached from outside; empty: no message asks "
            "for callbacks, no mail has an unsubscribe link"
        ),
    ] = ""
    secret: Annotated[str, about("a secret: signs the links that are given out; 32 characters or more")] = ""
    secret_previous: Annotated[str, about("a secret: the one before, still accepted")] = ""
    bounce_secret: Annotated[str, about("a secret: who reports bounces signs with it; empty: nobody can")] = (
        ""
    )
    bounce_secret_previous: Annotated[str, about("a secret: the one before, still accepted")] = ""
    sendgrid_keys: Annotated[
        tuple[str, ...],
        about("verification keys of SendGrid's signed event webhook; empty: its events are not taken"),
    ] = ()
    sns_topics: Annotated[
        tuple[str, ...],
        about("ARNs of SNS topics whose notifications of Amazon SES are taken; empty: none are"),
    ] = ()
    twilio_token_other: Annotated[
        str, about("a secret: a second auth token that may sign callbacks, while the token is being changed")
    ] = ""
    twilio_algorithm: Annotated[
        Literal["sha1", "sha256"], about("of `X-Twilio-Signature`; sha256 only if Twilio was told so")
    ] = "sha1"
    twilio_overrides: Annotated[
        str,
        Meta(pattern=r"\A([a-z]{1,3}=[0-9a-z,]+(&[a-z]{1,3}=[0-9a-z,]+)*)?\Z", max_length=100),
        about("how Twilio repeats a callback that failed; the fragment of the URL it is given"),
    ] = "rc=5&rp=5xx,ct,rt"
    stop_words: Annotated[
        tuple[str, ...], about("texts after which a number gets nothing more; capitals do not matter")
    ] = ("stop", "stopall", "unsubscribe", "cancel", "end", "quit", "stopp", "arrêt", "alto", "रोकें", "тоқта")
    start_words: Annotated[tuple[str, ...], about("texts that lift that")] = ("start", "yes", "unstop")
    help_words: Annotated[tuple[str, ...], about("texts that are answered with `help_text`")] = (
        *("help", "info", "hilfe", "aide", "ayuda"),
    )
    help_text: Annotated[str, Meta(max_length=320), about("the answer; empty: none")] = ""
    gather_ms: Annotated[
        Annotated[float, Meta(ge=0, le=1000)], about("how long status words are gathered for one transaction")
    ] = 5.0
    waiting_max: Annotated[Count, about("status words that wait for their transaction at most; then 503")] = (
        10_000
    )
    answer_timeout_s: Annotated[Seconds, about("what takes longer is answered 503")] = 8.0
    connections_max: Annotated[Count, about("open connections at most; more are closed")] = 2000
    requests_max: Annotated[Count, about("requests at once at most; then 503")] = 1000
    head_bytes_max: Annotated[Count, about("a request's line and headers")] = 16_384
    body_bytes_max: Annotated[Count, about("a request's body")] = 65_536
    bounce_bytes_max: Annotated[Annotated[int, Meta(ge=1, le=32 * 2**20)], about("a bounce report")] = (
        1_048_576
    )
    request_timeout_s: Annotated[Seconds, about("from a request's first byte to its last")] = 10.0
    idle_timeout_s: Annotated[
        Annotated[int, Meta(ge=1, le=3600)], about("a connection without a request is closed after this")
    ] = 15
