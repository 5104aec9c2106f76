"""The public listener put together."""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Final
from uuid import UUID

import msgspec
import structlog
from litestar.handlers import HTTPRouteHandler

from consumers.public.bounce_routes import TakeBounce, bounce_routes
from consumers.public.event_desk import EventDesk
from consumers.public.site import METHODS, public_site
from consumers.public.twilio_routes import TwilioRequests, twilio_routes
from consumers.public.unsubscribe_page import UnsubscribePage
from consumers.public.unsubscribe_routes import Unsubscribe, unsubscribe_routes
from consumers.public.webhooks import vendor_routes
from consumers.web.gate import LEFT, Gate, Rules
from consumers.web.requests import Patience
from consumers.web.server import Listener
from pipeline.adapters.mapping import Adapted
from pipeline.clock import Clock
from pipeline.lifecycle import Service, Tasks
from pipeline.notifications.callbacks.replays import Replays
from pipeline.notifications.callbacks.seals import Seals
from pipeline.notifications.callbacks.status_book import Apply, StatusBook
from pipeline.notifications.callbacks.twilio import InboundTexts, SetRecipient, StatusCallbacks
from pipeline.notifications.callbacks.twilio_signature import TwilioSignatures
from pipeline.notifications.callbacks.twilio_words import InboundReader
from pipeline.notifications.callbacks.unsubscribing import UnsubscribeTokens
from pipeline.notifications.callbacks.webhook_signature import WebhookSignatures
from pipeline.notifications.mail.bounces import Bounce
from pipeline.notifications.message_traces import Put, trace_statuses
from pipeline.notifications.rules.bounce_book import BounceBook, message_id_domains
from pipeline.notifications.rules.recipients import Recipients
from pipeline.notifications.sms.error_table import ErrorTable
from pipeline.observability.metrics import Metrics
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.effects import ProviderStatus
from pipeline.storage.outbox import Channel
from pipeline.storage.standing import RecipientState, Said

log = structlog.get_logger(__name__)

_OUTCOMES: Final = {
    HTTPStatus.UNAUTHORIZED: "not_genuine",
    HTTPStatus.FORBIDDEN: "not_genuine",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "not_found",
    LEFT: "left",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    0: "too_many_connections",
}

_PATH: Final = re.compile(rb"(/[A-Za-z0-9_-]+)+")
_PATH_BYTES_MAX: Final = 256
_ONCE: Final = frozenset(
    {
        *(b"webhook-id", b"webhook-signature", b"webhook-timestamp", b"x-twilio-signature"),
        b"x-twilio-email-event-webhook-signature",
        b"x-twilio-email-event-webhook-timestamp",
        *(b"x-shopify-hmac-sha256", b"x-shopify-webhook-id", b"x-shopify-topic", b"x-shopify-shop-domain"),
        *(b"stripe-signature", b"x-square-hmacsha256-signature"),
    }
)
_KINDS: Final = {
    b"/twilio/status/": "status",
    b"/twilio/inbound": "inbound",
    b"/unsubscribe/": "unsubscribe",
    b"/mail/bounces": "bounce",
    b"/mail/events/": "bounce",
    b"/webhooks/": "webhook",
}


PublishEvents = Callable[[Sequence[Adapted]], Awaitable[None]]
"""Returns when events are in a queue for good. Raises retryable errors."""

TakeReports = Callable[[Sequence[Bounce]], Awaitable[object]]
"""Takes what relays report of mails; durable on return. Raises retryable errors."""


class Sinks(msgspec.Struct, frozen=True, kw_only=True):
    """Where what is taken goes. Each returns when it is durable, and raises retryable errors."""

    apply: Callable[[ProviderStatus], Awaitable[None]]
    set_recipient: SetRecipient
    unsubscribe: Unsubscribe
    take_bounce: TakeBounce
    take_reports: TakeReports
    publish_events: PublishEvents


def public_services(
    settings: Settings,
    cluster: Cluster,
    *,
    metrics: Metrics,
    clock: Clock,
    new_tasks: Callable[[], Tasks],
    put: Put | None = None,
) -> list[Service]:
    """Return the services, most downstream first."""
    book = StatusBook(
        cluster,
        _applied_to(cluster, metrics, put),
        gather_s=settings.public.gather_ms / 1000,
        waiting_max=settings.public.waiting_max,
        clock=clock,
        tasks=new_tasks(),
    )
    recipients = Recipients(cluster, clock=clock)
    bounces = BounceBook(cluster, recipients, domains=message_id_domains(settings), clock=clock)

    async def unsubscribe(key: UUID) -> None:
        await recipients.set_key(key, Channel.EMAIL, Said(RecipientState.OUT, "unsubscribe"))

    desk = EventDesk(settings.amqp, settings.webhooks, clock=clock, tasks=new_tasks())
    sinks = Sinks(
        apply=book.apply,
        set_recipient=recipients.set,
        unsubscribe=unsubscribe,
        take_bounce=bounces.take,
        take_reports=bounces.take_reports,
        publish_events=desk.publish,
    )
    return [desk, book, public_listener(settings, sinks, metrics=metrics, clock=clock, tasks=new_tasks())]


def _applied_to(cluster: Cluster, metrics: Metrics, put: Put | None) -> Apply:
    async def apply(shard: str, words: Sequence[ProviderStatus]) -> frozenset[int]:
        began_ns = time.time_ns()
        applied = await cluster[shard].effects.apply_statuses(words)
        if put is not None:
            trace_statuses(applied.traced, began_ns, put)
        for outcome, count in applied.outcomes.items():
            metrics.status_words.labels(outcome).inc(count)
        for channel, seconds in applied.delivered_s:
            metrics.accepted_to_delivered.observe(channel, max(0.0, seconds))
        if applied.outcomes["not_understood"]:
            log.warning("statuses.not_understood", words=applied.outcomes["not_understood"])
        return applied.not_owned

    return apply


def public_listener(
    settings: Settings, sinks: Sinks, *, metrics: Metrics, clock: Clock, tasks: Tasks
) -> Listener:
    """Return the listener with every route."""
    public = settings.public
    gate = Gate(
        public_site(public_routes(settings, sinks, clock), body_bytes_max=public.body_bytes_max),
        Rules(methods=METHODS, path=_PATH, path_bytes_max=_PATH_BYTES_MAX, once=_ONCE, kind=_kind),
        requests_max=public.requests_max,
        is_https=public.base_url.startswith("https://"),
        observe=partial(_observe, metrics),
        clock=clock,
    )
    metrics.callbacks_under_way.set_function(lambda: gate.under_way)
    return Listener("public", public, gate, on_refusal=partial(_refused, metrics), tasks=tasks)


def public_routes(settings: Settings, sinks: Sinks, clock: Clock) -> list[HTTPRouteHandler]:
    """Return every route of the public listener."""
    public = settings.public
    secrets = (public.secret, public.secret_previous)
    patience = Patience(public.answer_timeout_s)
    accounts = _sms_accounts(settings)
    return [
        *twilio_routes(
            TwilioRequests(_twilio_signatures(settings), frozenset(accounts)),
            seals=Seals(secrets),
            callbacks=StatusCallbacks(accounts, sinks.apply, sinks.set_recipient, ErrorTable.load(), clock),
            texts=InboundTexts(InboundReader(public), sinks.set_recipient, clock),
            help_text=public.help_text,
            patience=patience,
        ),
        *unsubscribe_routes(
            UnsubscribeTokens(secrets),
            UnsubscribePage(settings.notifications.public_name),
            sinks.unsubscribe,
            patience,
        ),
        *bounce_routes(
            WebhookSignatures((public.bounce_secret, public.bounce_secret_previous), clock),
            sinks.take_bounce,
            Replays(clock),
            patience,
            bytes_max=public.bounce_bytes_max,
        ),
        *_relay_routes(settings, sinks.take_reports, clock, patience),
        *vendor_routes(settings, sinks.publish_events, clock, patience),
    ]


def _relay_routes(
    settings: Settings, take: TakeReports, clock: Clock, patience: Patience
) -> list[HTTPRouteHandler]:
    """Return the routes of the relays that are configured: only they need the library of their signatures."""
    public, routes = settings.public, []
    if not (public.sendgrid_keys or public.sns_topics):
        return []
    from consumers.public import fetching, relay_routes  # noqa: PLC0415  # see above

    domains, bytes_max = message_id_domains(settings), public.bounce_bytes_max
    if public.sendgrid_keys:
        signatures = relay_routes.SendGridSignatures(public.sendgrid_keys, clock)
        routes += [relay_routes.sendgrid_route(signatures, take, domains, patience, bytes_max=bytes_max)]
    if public.sns_topics:
        topics = relay_routes.SnsTopics(public.sns_topics, fetching.fetch, clock)
        routes += [relay_routes.ses_route(topics, take, domains, patience, bytes_max=bytes_max)]
    return routes


def _sms_accounts(settings: Settings) -> dict[str, str]:
    """Return which provider slot each configured Twilio account is."""
    slots = {"twilio": settings.sms, "twilio_second": settings.sms_second}
    configured = {name: sms for name, sms in slots.items() if sms is not None and sms.account_sid}
    # Where both have one account, it is the first slot's.
    return {sms.account_sid: name for name, sms in reversed(configured.items())}


def _twilio_signatures(settings: Settings) -> TwilioSignatures:
    public, second = settings.public, settings.sms_second
    return TwilioSignatures(
        base_url=public.base_url,
        tokens=(settings.sms.auth_token, second.auth_token if second else "", public.twilio_token_other),
        algorithm=public.twilio_algorithm,
    )


def _kind(path: bytes) -> str:
    return next((kind for prefix, kind in _KINDS.items() if path.startswith(prefix)), "other")


def _observe(metrics: Metrics, kind: str, status: int, took_s: float) -> None:
    metrics.callbacks.labels(kind, _outcome(status)).inc()
    metrics.callback_seconds.labels(kind).observe(took_s)


def _refused(metrics: Metrics, status: int) -> None:
    metrics.callbacks.labels("connection", _outcome(status)).inc()


def _outcome(status: int) -> str:
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    return "done" if status in range(200, 300) else "failed" if status >= 500 else "refused"  # noqa: PLR2004
