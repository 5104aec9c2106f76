"""Flow two put together: a relay for each channel with its provider, and the reconciler."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from consumers.process_parts import Parts
from consumers.provider_slots import (
    SlotMaker,
    email_providers,
    email_sections,
    sms_providers,
    sms_sections,
)
from consumers.roles import Role
from consumers.sending_rules import sending_rules
from consumers.standings import Standings
from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.control.limit_board import LimitBoard
from pipeline.control.limit_keeper import LimitKeeper
from pipeline.control.limit_ranges import limit_ranges
from pipeline.control.report_board import ReportBoard
from pipeline.control.reporter import this_process
from pipeline.control.sender_count import SenderCount
from pipeline.lifecycle import Service, Tasks
from pipeline.notifications.callbacks.links import Links
from pipeline.notifications.composer import Composer
from pipeline.notifications.contacts import ContactBook
from pipeline.notifications.dispatcher import Dispatcher
from pipeline.notifications.evidence import asker
from pipeline.notifications.foresight import Foresight
from pipeline.notifications.inquiry import Inquiry
from pipeline.notifications.mail.documents import DocumentFetcher
from pipeline.notifications.mail.lint import check as check_templates
from pipeline.notifications.mail.templates import Templates, templates_of
from pipeline.notifications.message_traces import Put, TracedDispatcher, TracedSender
from pipeline.notifications.pools.pool_report import pool_report
from pipeline.notifications.pools.provider_slot import ProviderSlot, Sender
from pipeline.notifications.pools.provider_slots import ProviderSlots
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.notifications.receipts import ReceiptBook
from pipeline.notifications.reconciler import Reconciler
from pipeline.notifications.relay import Relay
from pipeline.notifications.sms.composition import SmsComposition
from pipeline.observability.metrics import Metrics
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel, Claim
from pipeline.storage.outbox_news import OutboxNews
from pipeline.storage.persons import Persons

_GATHER_S = 0.005  # receipts are gathered for this long, so that one transaction records many


class Providers:
    """The connections to the world outside, open as long as anything sends. `put` takes spans; None: none."""

    name = "providers"

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
        templates: Templates,
        complete: Callable[[Claim], Awaitable[Claim]],
        *,
        put: Put | None,
    ) -> None:
        self._sms = sms_providers(settings)
        self._email = email_providers(settings, clock)
        self._documents = DocumentFetcher(
            timeout_s=settings.documents.timeout_s,
            document_bytes_max=settings.intake.document_bytes_max,
            hosts=settings.intake.document_hosts,
        )
        links = Links(settings.public)
        sms = SmsComposition(settings.sms, callback_url=links.status_callback)
        self.composer = Composer(templates, self._documents, complete, sms, links.unsubscribe)
        maker = SlotMaker(settings.pools, metrics, clock)
        self.sms = maker.sms(sms_sections(settings), _traced(self._sms, put))
        self.email = maker.email(email_sections(settings), _traced(self._email, put))

    @property
    def all_sms(self) -> tuple[TwilioProvider, ...]:
        """Every provider that may have accepted an SMS."""
        return tuple(self._sms.values())

    @property
    def slots(self) -> tuple[ProviderSlot, ...]:
        """What is limited: every provider of both channels."""
        return (*self.sms.slots, *self.email.slots)

    async def start(self) -> None:
        """Do nothing: connections are opened when first needed."""

    async def drain(self) -> None:
        """Do nothing: whoever sends has finished before."""

    async def stop(self) -> None:
        """Close every connection."""
        for sms in self._sms.values():
            await sms.close()
        for email in self._email.values():
            await email.close()
        await self._documents.close()


def _traced(providers: Mapping[str, Sender], put: Put | None) -> Mapping[str, Sender]:
    return providers if put is None else {name: TracedSender(one, put) for name, one in providers.items()}


def checked_templates(settings: Settings) -> Templates:
    """Return the templates. Raises SettingsError when something is wrong with them."""
    templates = templates_of(settings.notifications)
    check_templates(templates)
    return templates


def notification_services(
    settings: Settings,
    cluster: Cluster,
    *,
    templates: Templates,
    news: OutboxNews,
    metrics: Metrics,
    clock: Clock,
    new_tasks: Callable[[], Tasks],
    parts: Parts,
    put: Put | None = None,
) -> list[Service]:
    """Return the services, most downstream first. `parts`: of the report. `put` takes spans."""
    sending = settings.notifications
    book, persons = _contacts(settings, cluster, clock, new_tasks)
    standings = Standings(settings, cluster, clock=clock, tasks=new_tasks())
    rules = sending_rules(settings, cluster, standings, metrics=metrics, clock=clock, new_tasks=new_tasks)
    providers = Providers(settings, metrics, clock, templates, book.complete, put=put)

    async def check(claim: Claim, message: Any) -> None:
        if settings.rules.quiet_kinds:  # they go by the person's number and country, which the book knows
            claim = await book.complete(claim)
        await rules.check(claim, message)

    async def leave_out(claim: Claim, invoice_id: str) -> None:
        await cluster[claim.shard].outbox.leave_out(claim, invoice_id)

    def relay(channel: Channel, compose: Callable[[Claim], Awaitable[Any]], slots: ProviderSlots) -> Relay:
        dispatcher = Dispatcher(
            compose=compose,
            check=check,
            send=slots.send,
            leave_out=leave_out,
            settle=rules.settled,
            retry=Backoff(base_s=sending.retry_base_s, ceiling_s=sending.retry_ceiling_s),
            attempts_max=sending.attempts_max,
            clock=clock,
        )
        return Relay(
            channel,
            cluster=cluster,
            dispatcher=dispatcher if put is None else TracedDispatcher(dispatcher, put),
            receipts=ReceiptBook(
                channel, cluster, gather_s=_GATHER_S, metrics=metrics, clock=clock, tasks=new_tasks()
            ),
            capacity=slots,
            claim_max=sending.claim_max,
            poll_s=sending.poll_ms / 1000,
            grace_s=sending.grace_window_s if channel is Channel.EMAIL else 0.0,
            news=news,
            metrics=metrics,
            clock=clock,
            claiming=new_tasks(),
            working=new_tasks(),
        )

    relays = [
        relay(Channel.SMS, providers.composer.sms, providers.sms),
        relay(Channel.EMAIL, providers.composer.email, providers.email),
    ]
    reconciler = _reconciler(
        settings, cluster, providers, book, news=news, metrics=metrics, clock=clock, tasks=new_tasks()
    )
    keeper = _limit_keeper(settings, cluster, providers, clock, new_tasks)
    count = _sender_count(cluster, providers, clock, new_tasks)
    pools = tuple(zip(relays, (providers.sms, providers.email), strict=True))
    parts["pools"] = lambda: tuple(pool_report(relay.pool, slots) for relay, slots in pools)
    parts["limits"] = keeper.applied
    foresight = Foresight(cluster, book.expect)
    return [providers, persons, book, foresight, standings, rules, keeper, count, *relays, reconciler]


def _reconciler(
    settings: Settings,
    cluster: Cluster,
    providers: Providers,
    book: ContactBook,
    *,
    news: OutboxNews,
    metrics: Metrics,
    clock: Clock,
    tasks: Tasks,
) -> Reconciler:
    """Return what looks after claims that were lost and outcomes that are unknown: of SMS it can ask."""
    sending = settings.notifications
    inquiry = Inquiry(
        settings.effects,
        {Channel.SMS: asker(providers.composer.sms, providers.all_sms, book.check_unchanged)},
        attempts_max=sending.attempts_max,
        metrics=metrics,
    )
    return Reconciler(
        cluster,
        inquiry,
        tell=news.tell,
        interval_s=sending.sweep_interval_s,
        metrics=metrics,
        clock=clock,
        tasks=tasks,
    )


def _limit_keeper(
    settings: Settings,
    cluster: Cluster,
    providers: Providers,
    clock: Clock,
    new_tasks: Callable[[], Tasks],
) -> LimitKeeper:
    """Return what has operators' limits count. Before the relays: nothing is sent without."""
    return LimitKeeper(
        LimitBoard(cluster, clock),
        limit_ranges({**sms_sections(settings), **email_sections(settings)}),
        providers.slots,
        clock=clock,
        tasks=new_tasks(),
    )


def _sender_count(
    cluster: Cluster, providers: Providers, clock: Clock, new_tasks: Callable[[], Tasks]
) -> SenderCount:
    """Return what has each process take its share of the rates. Before the relays, too."""
    return SenderCount(
        ReportBoard(cluster, clock),
        this_process([]).process_id,
        Role.NOTIFICATIONS,
        providers.slots,
        clock=clock,
        tasks=new_tasks(),
    )


def _contacts(
    settings: Settings, cluster: Cluster, clock: Clock, new_tasks: Callable[[], Tasks]
) -> tuple[ContactBook, Persons]:
    """Return the contact book, and the reader that tells it of changes."""

    def on_change(slots: Iterable[int]) -> None:
        book.changed(slots)

    persons = Persons(cluster, on_change=on_change, clock=clock, tasks=new_tasks())
    book = ContactBook(
        router=cluster.router,
        read=persons.read,
        refresh=cluster.refresh,
        wait_s=settings.notifications.contact_wait_s,
        clock=clock,
        tasks=new_tasks(),
    )
    return book, persons
