"""Settings of traces: where they go, and how many."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Count, Seconds, about


class TraceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Traces, sent to an OTLP receiver by HTTP in protobuf.

    Without an endpoint there are none, and nothing is paid for them. With one, the packages of the extra
    `traces` are needed.
    """

    endpoint: Annotated[
        str,
        Meta(max_length=2000),
        about("where spans go, such as `http://localhost:4318/v1/traces`; empty: no traces"),
    ] = ""
    authorization: Annotated[str, about("a secret: the header `Authorization` to send; empty: none")] = ""
    sample_ratio: Annotated[
        Annotated[float, Meta(ge=0, le=1)],
        about("share of the orders traced that come without a trace of upstream's; 0: none, 1: all"),
    ] = 0.01
    events_per_s_max: Annotated[
        Count, about("events traced per second and process at most, also of those that upstream has sampled")
    ] = 100
    queue_max: Annotated[Count, about("spans that wait to be sent at most; what is more is dropped")] = 4096
    interval_s: Annotated[Seconds, about("a span waits for company for so long")] = 2.0
    timeout_s: Annotated[
        Seconds, about("for one request; the last ones, when the process ends, get 2 s at most")
    ] = 5.0
    service_name: Annotated[str, Meta(min_length=1, max_length=100), about("`service.name` of the spans")] = (
        "postorder"
    )
