"""From a claim to a finished message: the recipient found and judged, documents at hand, texts rendered."""

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.notifications.mail.address import email_address
from pipeline.notifications.mail.documents import DocumentFetcher
from pipeline.notifications.mail.invoice_maker import InvoiceMaker
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.notification import Attachment, Email, Sms
from pipeline.notifications.sms.composition import SmsComposition
from pipeline.storage.outbox import Claim, InvoiceDocument


def _nowhere(_address: str) -> None:
    """Return no link: nobody listens for unsubscribing."""


class Composer:
    """Composes messages.

    `complete` finds the recipient of a claim whose order names a customer only; see ContactBook.
    `unsubscribe_url` says where the reader at an address can have no more mails sent to it. Raises
    RecipientRefusedError, ThrottledError (ask again later), DocumentError or DocumentUnavailableError.
    """

    def __init__(
        self,
        templates: Templates,
        documents: DocumentFetcher,
        complete: Callable[[Claim], Awaitable[Claim]],
        sms: SmsComposition,
        unsubscribe_url: Callable[[str], str | None] = _nowhere,
    ) -> None:
        self._templates = templates
        self._documents = documents
        self._invoices = InvoiceMaker(templates)
        self._complete = complete
        self._sms = sms
        self._unsubscribe_url = unsubscribe_url

    async def sms(self, claim: Claim) -> Sms:
        """Compose an SMS."""
        claim = await self._complete(claim)
        return self._sms.finish(claim, self._templates.sms(claim, self._sms.recipient(claim)))

    async def email(self, claim: Claim) -> Email:
        """Compose a mail."""
        claim = await self._complete(claim)
        to = email_address(claim.email)
        attachments = await self._attachments(claim)
        return self._templates.email(claim, to, tuple(attachments), self._unsubscribe_url(to))

    async def _attachments(self, claim: Claim) -> list[Attachment]:
        """Return all of them.

        They are fetched at once: one after the other, slow ones would outlast the claim, time and again.
        Those that are made here are made one after the other, because there is a queue for that.
        """
        if not claim.invoices:
            return []
        making = asyncio.Lock()

        async def attachment(invoice: InvoiceDocument) -> Attachment:
            if invoice.content is None and invoice.url is None:
                async with making:
                    return await self._invoices.attachment(claim, invoice)
            return await self._documents.attachment(invoice)

        if len(claim.invoices) > 1:
            return await asyncio.gather(*map(attachment, claim.invoices))
        return [await attachment(invoice) for invoice in claim.invoices]
