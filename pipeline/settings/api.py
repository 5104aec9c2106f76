"""Settings of the HTTP API: for people and programs that operate an installation, and for the console."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Count, Port, Seconds, about


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP API and the console."""

    host: Annotated[str, about("address of the listener")] = "127.0.0.1"
    port: Annotated[Port, about("its port; 0: no listener")] = 0
    behind_tls: Annotated[
        bool, about("a proxy in front speaks TLS; must be true for a `host` that is not loopback")
    ] = False
    trusted_proxies: Annotated[
        tuple[str, ...],
        about("networks of proxies whose last entry of `X-Forwarded-For` is taken for the caller's address"),
    ] = ()
    secret: Annotated[str, about("a secret: signs tokens; 32 characters or more")] = ""
    secret_previous: Annotated[str, about("a secret: the one before, whose tokens are still accepted")] = ""
    issuer: Annotated[str, Meta(min_length=1, max_length=100), about("`iss` of tokens")] = "postorder"
    audience: Annotated[
        str, Meta(min_length=1, max_length=100), about("`aud` of tokens; another for each installation")
    ] = "postorder-api"
    token_lifetime_s: Annotated[
        Annotated[int, Meta(ge=60, le=3600)], about("tokens made to live longer are refused")
    ] = 3600
    leeway_s: Annotated[
        Annotated[float, Meta(ge=0, le=60)], about("by how much the clocks of who makes tokens may differ")
    ] = 30.0
    refused_subjects: Annotated[
        tuple[str, ...], about("subjects whose tokens are refused before they end")
    ] = ()
    requests_per_s: Annotated[Count, about("requests of one subject; then 429")] = 20
    requests_burst: Annotated[Count, about("as many at once after a rest")] = 60
    address_requests_per_s: Annotated[
        Count, about("requests from one address, with a good token or not; then 429")
    ] = 50
    address_requests_burst: Annotated[Count, about("as many at once after a rest")] = 150
    streams_max: Annotated[Count, about("streams of the overview at once; then 503")] = 100
    streams_each_max: Annotated[Count, about("of those, for one subject; then 429")] = 10
    stream_s: Annotated[Seconds, about("a stream ends after this; who looks on asks for the next")] = 900.0
    answer_timeout_s: Annotated[Seconds, about("what takes longer is answered 503")] = 10.0
    connections_max: Annotated[Count, about("open connections at most; more are closed")] = 500
    requests_max: Annotated[Count, about("requests at once at most, streams too; then 503")] = 250
    head_bytes_max: Annotated[Count, about("a request's line and headers")] = 16_384
    body_bytes_max: Annotated[Count, about("a request's body")] = 16_384
    request_timeout_s: Annotated[
        Seconds, about("from a request's first byte to its last; how long its answer may wait to be taken")
    ] = 10.0
    idle_timeout_s: Annotated[
        Annotated[int, Meta(ge=1, le=3600)], about("a connection without a request is closed after this")
    ] = 15
