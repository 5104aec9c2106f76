"""A mail larger than its relay takes goes without its largest invoice, instead of not at all."""

import pytest
from claims import claim
from smtp_relays import answers, mail, open_sink, outcome, provider_on, scripted

from pipeline.backoff import Backoff
from pipeline.clock import SystemClock
from pipeline.errors import DocumentError
from pipeline.notifications.composer import Composer
from pipeline.notifications.dispatcher import Dispatcher
from pipeline.notifications.mail.documents import DocumentFetcher
from pipeline.notifications.mail.templates import templates_of
from pipeline.notifications.notification import Attachment
from pipeline.notifications.provider import Accepted
from pipeline.notifications.providers.smtp import SmtpProvider
from pipeline.notifications.sms.composition import SmsComposition
from pipeline.settings import NotificationSettings, SmsSettings
from pipeline.storage.outbox import Channel, Claim, InvoiceDocument, Kind, Receipt, State

MIB = 1024 * 1024
BEFORE = b"250-script\r\n250 SIZE 0\r\n"  # it names no limit, and has one


def attached(**sizes: int) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(filename=name, media_type="application/pdf", content=bytes(size), invoice_id=name)
        for name, size in sizes.items()
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"EHLO": b"250-script\r\n250 SIZE 1000\r\n"},
        {"EHLO": BEFORE, "MAIL": b"552 5.3.4 too large\r\n"},
        {"EHLO": BEFORE, "MAIL": b"552 too large\r\n"},
        {"EHLO": BEFORE, "RCPT": b"552 5.2.3 more than she takes\r\n"},
        {"EHLO": BEFORE, "DATA": b"554 5.3.4 too large\r\n"},
        {"EHLO": BEFORE, "END": b"552 5.3.4 too large\r\n"},
        {"EHLO": BEFORE, "END": b"552 too large\r\n"},
    ],
)
async def test_the_largest_invoice_is_named_wherever_the_relay_says_so(changes: dict[str, bytes]) -> None:
    async with scripted(answers(**changes)) as (_script, port):
        provider = provider_on(port)
        with pytest.raises(DocumentError) as caught:
            await provider.send(mail("a@example.com", attachments=attached(a=700, b=900, c=800)))
        assert caught.value.invoice_id == "b"
        assert not caught.value.retryable
        assert (await outcome(provider, mail("a@example.com", text="x" * 2000))).startswith("TooLargeError")
        await provider.close()


async def test_a_full_mailbox_is_no_large_mail() -> None:
    async with scripted(answers(RCPT=b"552 5.2.2 over quota\r\n")) as (_script, port):
        provider = provider_on(port)
        said = await outcome(provider, mail("a@example.com", attachments=attached(a=700)))
        assert said == "ThrottledError 552 5.2.2"
        await provider.close()


def invoice(name: str, size: int) -> InvoiceDocument:
    return InvoiceDocument(
        invoice_id=name,
        number=name,
        currency="EUR",
        total="1",
        media_type="application/pdf",
        filename=f"{name}.pdf",
        content=bytes(size),
        url=None,
    )


def order_mail(kind: Kind, *invoices: InvoiceDocument) -> Claim:
    return claim(channel=Channel.EMAIL, kind=kind, email="ada@example.com", invoices=invoices)


class Shop:
    """Dispatches the mails of one order until nothing is left to do, as the relay and the outbox do."""

    def __init__(self, provider: SmtpProvider) -> None:
        self._provider = provider
        self._left_out: list[str] = []
        documents = DocumentFetcher(timeout_s=1, document_bytes_max=MIB, hosts=())
        composer = Composer(
            templates_of(NotificationSettings()),
            documents,
            complete=self._as_it_is,
            sms=SmsComposition(SmsSettings(), callback_url=lambda _claim: None),
        )
        self._dispatcher = Dispatcher(
            compose=composer.email,
            check=self._allow,
            send=self._send,
            leave_out=self._leave_out_of,
            settle=self._settled,
            retry=Backoff(base_s=1, ceiling_s=8),
            attempts_max=3,
            clock=SystemClock(),
        )

    async def dispatch(self, of: Claim) -> Receipt:
        """Return the last receipt of one mail."""
        while True:
            found = await self._dispatcher.dispatch(of)
            if found.state is not State.PENDING:
                return found
            assert found.retry_in_s == 0.0
            kept = [one for one in of.invoices if one.invoice_id not in self._left_out]
            assert len(kept) == len(of.invoices) - 1
            of = order_mail(of.kind, *kept)

    @property
    def left_out(self) -> list[str]:
        """The invoices that are to travel alone now."""
        return self._left_out

    @staticmethod
    async def _as_it_is(of: Claim) -> Claim:
        return of

    @staticmethod
    async def _allow(_claim: Claim, _message: object) -> None:
        pass

    @staticmethod
    async def _settled(_claim: Claim, _receipt: Receipt) -> None:
        pass

    async def _send(self, message, _attempt: int) -> Accepted:
        return await self._provider.send(message)

    async def _leave_out_of(self, _claim: Claim, invoice_id: str) -> None:
        self._left_out.append(invoice_id)


async def test_what_is_too_large_together_goes_one_by_one() -> None:
    async with open_sink("--mail-mib-max", "1") as sink:
        provider = provider_on(sink.port)
        shop = Shop(provider)
        large, small, huge = invoice("large", 500_000), invoice("small", 300_000), invoice("huge", 900_000)
        together = await shop.dispatch(order_mail(Kind.ORDER_EMAIL, small, huge, large))
        assert together.state is State.ACCEPTED
        assert shop.left_out == ["huge", "large"]
        assert (await shop.dispatch(order_mail(Kind.INVOICE_EMAIL, large))).state is State.ACCEPTED
        alone = await shop.dispatch(order_mail(Kind.INVOICE_EMAIL, huge))
        assert (alone.state, alone.reason) == (State.FAILED, "document")
        files = [
            [part.get_filename() for part in (await sink.mail(number)).iter_attachments()]
            for number in (1, 2)
        ]
        assert files == [["small.pdf"], ["large.pdf"]]
        assert await sink.kept() == {"ada@example.com": 2}
        await provider.close()
