"""The API put together."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from consumers.api.access import guard_of
from consumers.api.addresses import Addresses
from consumers.api.audit_routes import audit_routes
from consumers.api.door import Door
from consumers.api.effect_routes import effect_routes
from consumers.api.fresh import Fresh
from consumers.api.limit_routes import limit_routes
from consumers.api.order_routes import order_routes
from consumers.api.overview_reader import OverviewReader
from consumers.api.overview_routes import STREAM_PATH, overview_routes
from consumers.api.quarantine_routes import quarantine_routes
from consumers.api.recipient_routes import recipient_routes
from consumers.api.site import METHODS, api_site
from consumers.api.streams import OverviewStreams
from consumers.api.tokens import TokenReader
from consumers.provider_slots import email_sections, sms_sections
from consumers.shards_report import views_of
from consumers.status import read_status
from consumers.web.gate import LEFT, Gate, Rules
from consumers.web.rate_limits import RateLimits
from consumers.web.server import Listener
from pipeline.clock import Clock
from pipeline.control.audit_log import AuditLog
from pipeline.control.limit_board import LimitBoard
from pipeline.control.limit_ranges import limit_ranges
from pipeline.control.report_board import ReportBoard
from pipeline.lifecycle import Service, Tasks
from pipeline.notifications.rules.recipients import Recipients
from pipeline.observability.api_metrics import ApiMetrics
from pipeline.reading.order_reader import OrderReader
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster

_STATUS_AGE_S: Final = 30.0
_STATUS_STALE_S: Final = 150.0  # tables may take a minute to count
_SHARDS_AGE_S: Final = 5.0
# RFC 3986's characters of a segment, so that an id can be written as it is usual; no empty segments.
_PATH: Final = re.compile(rb"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)+")
_PATH_BYTES_MAX: Final = 2048
_KINDS: Final = frozenset(
    {
        *("orders", "invoices", "customers", "effects", "quarantine", "recipients", "limits", "pools"),
        *("overview", "kpis", "status", "shards", "ring", "me", "audit", "openapi.json"),
    }
)
_OUTCOMES: Final = {
    0: "too_many_connections",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "not_found",
    429: "throttled",
    LEFT: "left",
    503: "unavailable",
}


class Readers:
    """A service: the connections that only the API reads by."""

    name = "api readers"

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self.orders = OrderReader(settings, cluster)

    async def start(self) -> None:
        """Do nothing: connections are opened when first needed."""

    async def drain(self) -> None:
        """Do nothing: whoever asks has been answered before."""

    async def stop(self) -> None:
        """Close every connection."""
        await self.orders.close()


def api_services(
    settings: Settings,
    cluster: Cluster,
    *,
    metrics: ApiMetrics,
    clock: Clock,
    new_tasks: Callable[[], Tasks],
    more_routes: Sequence[HTTPRouteHandler] = (),
) -> list[Service]:
    """Return the services, most downstream first. `more_routes`: of what is served beside the API."""
    readers = Readers(settings, cluster)
    overview = OverviewReader(
        settings, cluster, ReportBoard(cluster, clock), LimitBoard(cluster, clock), clock
    )
    streams = OverviewStreams(settings.api, overview, clock)
    metrics.api_streams.set_function(lambda: streams.open_count)
    routes = [
        *api_routes(
            settings, cluster, orders=readers.orders, overview=overview, streams=streams, clock=clock
        ),
        *more_routes,
    ]
    site = api_application(settings, routes, clock)
    listener = api_listener(settings, site, metrics=metrics, clock=clock, tasks=new_tasks())
    return [readers, listener, streams]


def api_routes(
    settings: Settings,
    cluster: Cluster,
    *,
    orders: OrderReader,
    overview: OverviewReader,
    streams: OverviewStreams,
    clock: Clock,
) -> list[HTTPRouteHandler]:
    """Return every route of the API."""
    audit = AuditLog(cluster, clock)
    ranges = limit_ranges({**sms_sections(settings), **email_sections(settings)})
    status = Fresh(
        lambda: read_status(settings, cluster),
        age_s=_STATUS_AGE_S,
        clock=clock,
        patience_s=settings.api.answer_timeout_s / 2,
        stale_s=_STATUS_STALE_S,
    )
    shards = Fresh(lambda: views_of(cluster, sizes=False), age_s=_SHARDS_AGE_S, clock=clock)
    return [
        *overview_routes(overview, streams, cluster, status=status, shards=shards),
        *order_routes(orders, cluster),
        *effect_routes(cluster, audit, answer_timeout_s=settings.api.answer_timeout_s),
        *quarantine_routes(cluster, settings.amqp, audit),
        *recipient_routes(Recipients(cluster, clock=clock), audit),
        *limit_routes(overview, LimitBoard(cluster, clock), ranges, audit),
        *audit_routes(audit),
    ]


def api_application(settings: Settings, routes: Sequence[HTTPRouteHandler], clock: Clock) -> Litestar:
    """Return the application: routes behind the guard."""
    api = settings.api
    limits = RateLimits(per_s=api.requests_per_s, burst=api.requests_burst, clock=clock)
    return api_site(routes, guard_of(TokenReader(api), limits), body_bytes_max=api.body_bytes_max)


def api_listener(
    settings: Settings, site: Litestar, *, metrics: ApiMetrics, clock: Clock, tasks: Tasks
) -> Listener:
    """Return the listener: the application behind door and gate."""
    api = settings.api
    door = Door(
        site,
        Addresses(api.trusted_proxies),
        RateLimits(per_s=api.address_requests_per_s, burst=api.address_requests_burst, clock=clock),
        timeout_s=api.answer_timeout_s,
        endless=frozenset({STREAM_PATH.encode()}),
    )
    rules = Rules(
        methods=METHODS,
        path=_PATH,
        path_bytes_max=_PATH_BYTES_MAX,
        once=frozenset({b"authorization"}),
        kind=kind_of,
    )
    gate = Gate(
        door,
        rules,
        requests_max=api.requests_max,
        is_https=api.behind_tls,
        observe=partial(_observe, metrics),
        clock=clock,
    )
    metrics.api_under_way.set_function(lambda: gate.under_way)
    return Listener("api", api, gate, on_refusal=partial(_refused, metrics), tasks=tasks)


def kind_of(path: bytes) -> str:
    """Return what a path is counted as: what follows /v1, or the console; no word of the caller's own."""
    if path == STREAM_PATH.encode():
        return "stream"
    _, first, second, *_ = (*path.decode("ascii", "replace").split("/"), "", "")
    if first == "v1" and second in _KINDS:
        return second
    return "console" if first == "console" else "other"


def _observe(metrics: ApiMetrics, kind: str, status: int, took_s: float) -> None:
    metrics.api_requests.labels(kind, _outcome(status)).inc()
    if kind != "stream":
        metrics.api_seconds.labels(kind).observe(took_s)


def _refused(metrics: ApiMetrics, status: int) -> None:
    metrics.api_requests.labels("connection", _outcome(status)).inc()


def _outcome(status: int) -> str:
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    return "done" if status in range(200, 400) else "failed" if status >= 500 else "refused"  # noqa: PLR2004
