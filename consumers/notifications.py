"""Flow two put together: a relay for each channel with its provider, and the reconciler."""

from collections.abc import Awaitable, Callable, Iterable

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.lifecycle import Service, Tasks
from pipeline.notifications.composer import Composer
from pipeline.notifications.contacts import ContactBook
from pipeline.notifications.dispatcher import Dispatcher
from pipeline.notifications.mail.documents import DocumentFetcher
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.pools.worker_pool import FixedCapacity
from pipeline.notifications.provider import Accepted
from pipeline.notifications.providers.smtp import SmtpProvider
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.notifications.receipts import ReceiptBook
from pipeline.notifications.reconciler import Reconciler
from pipeline.notifications.relay import Relay
from pipeline.observability.metrics import Metrics
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel, Claim
from pipeline.storage.persons import Persons

_GATHER_S = 0.005  # receipts are gathered for this long, so that one transaction records many


class Providers:
    """The connections to the world outside. The most downstream service: open as long as anything sends."""

    name = "providers"

    def __init__(
        self, settings: Settings, clock: Clock, complete: Callable[[Claim], Awaitable[Claim]]
    ) -> None:
        shop = settings.notifications.public_name
        self._sms = TwilioProvider(settings.sms)
        self._email = SmtpProvider(settings.email, sender_name=shop, clock=clock)
        self._documents = DocumentFetcher(
            timeout_s=settings.documents.timeout_s,
            document_bytes_max=settings.intake.document_bytes_max,
            hosts=settings.intake.document_hosts,
        )
        self._composer = Composer(Templates(shop=shop), self._documents, complete)

    async def send_sms(self, claim: Claim) -> Accepted:
        """Compose and send an SMS."""
        return await self._sms.send(await self._composer.sms(claim))

    async def send_email(self, claim: Claim) -> Accepted:
        """Compose and send a mail."""
        return await self._email.send(await self._composer.email(claim))

    async def start(self) -> None:
        """Do nothing: connections are opened when first needed."""

    async def drain(self) -> None:
        """Do nothing: whoever sends has finished before."""

    async def stop(self) -> None:
        """Close every connection."""
        await self._sms.close()
        await self._email.close()
        await self._documents.close()


def notification_services(
    settings: Settings, cluster: Cluster, metrics: Metrics, clock: Clock, new_tasks: Callable[[], Tasks]
) -> tuple[list[Service], Callable[[str], None]]:
    """Return the services, most downstream first, and a function that wakes them for a shard."""
    book, persons = _contacts(settings, cluster, clock, new_tasks)
    providers = Providers(settings, clock, book.complete)

    async def leave_out(claim: Claim, invoice_id: str) -> None:
        await cluster[claim.shard].outbox.leave_out(claim, invoice_id)

    def relay(channel: Channel, send: Callable[[Claim], Awaitable[Accepted]], concurrency: int) -> Relay:
        notifications = settings.notifications
        recording = new_tasks()
        return Relay(
            channel,
            cluster=cluster,
            dispatcher=Dispatcher(
                send=send,
                leave_out=leave_out,
                retry=Backoff(base_s=notifications.retry_base_s, ceiling_s=notifications.retry_ceiling_s),
                attempts_max=notifications.attempts_max,
                clock=clock,
            ),
            receipts=ReceiptBook(
                channel, cluster, gather_s=_GATHER_S, metrics=metrics, clock=clock, tasks=recording
            ),
            capacity=FixedCapacity(concurrency),
            claim_max=notifications.claim_max,
            poll_s=notifications.poll_ms / 1000,
            metrics=metrics,
            clock=clock,
            claiming=new_tasks(),
            working=new_tasks(),
            recording=recording,
        )

    relays = [
        relay(Channel.SMS, providers.send_sms, settings.sms.concurrency),
        relay(Channel.EMAIL, providers.send_email, settings.email.concurrency),
    ]
    reconciler = Reconciler(
        cluster, interval_s=settings.notifications.sweep_interval_s, clock=clock, tasks=new_tasks()
    )

    def wake(shard: str) -> None:
        for one in relays:
            one.wake(shard)

    return [providers, persons, book, *relays, reconciler], wake


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
