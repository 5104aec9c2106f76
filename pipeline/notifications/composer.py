"""From a claim to a finished message: the recipient found and judged, documents at hand, texts rendered."""

from collections.abc import Awaitable, Callable

from pipeline.notifications.mail.documents import DocumentFetcher
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.notification import Email, Sms
from pipeline.notifications.recipient import email_address
from pipeline.notifications.sms.composition import SmsComposition
from pipeline.storage.outbox import Claim


class Composer:
    """Composes messages.

    `complete` finds the recipient of a claim whose order names a customer only; see ContactBook. Raises
    RecipientRefusedError, ThrottledError (ask again later), DocumentError or DocumentUnavailableError.
    """

    def __init__(
        self,
        templates: Templates,
        documents: DocumentFetcher,
        complete: Callable[[Claim], Awaitable[Claim]],
        sms: SmsComposition,
    ) -> None:
        self._templates = templates
        self._documents = documents
        self._complete = complete
        self._sms = sms

    async def sms(self, claim: Claim) -> Sms:
        """Compose an SMS."""
        claim = await self._complete(claim)
        return self._sms.finish(claim, self._templates.sms(claim, self._sms.recipient(claim)))

    async def email(self, claim: Claim) -> Email:
        """Compose a mail."""
        claim = await self._complete(claim)
        to = email_address(claim.email)
        attachments = [await self._documents.attachment(invoice) for invoice in claim.invoices]
        return self._templates.email(claim, to, tuple(attachments))
