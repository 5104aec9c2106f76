"""A mail with several documents to be fetched is ready as soon as the slowest of them."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from claims import claim

from pipeline.notifications.composer import Composer
from pipeline.notifications.mail.templates import templates_of
from pipeline.notifications.notification import Attachment
from pipeline.settings import NotificationSettings
from pipeline.storage.outbox import Channel, Claim, InvoiceDocument, Kind


class SlowHosts:
    """Gives a document out when all of a mail were asked for."""

    def __init__(self, documents: int) -> None:
        self._all_asked = asyncio.Barrier(documents)

    async def attachment(self, invoice: InvoiceDocument) -> Attachment:
        async with asyncio.timeout(2):
            await self._all_asked.wait()
        return Attachment(filename=invoice.invoice_id, media_type=invoice.media_type, content=b"%PDF")


def document(number: int) -> InvoiceDocument:
    return InvoiceDocument(
        invoice_id=f"i-{number}",
        number=None,
        currency="EUR",
        total="1",
        media_type="application/pdf",
        filename=None,
        content=None,
        url=f"https://example.com/{number}",
        issued_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def complete(claim: Claim) -> Claim:
    return claim


async def test_documents_are_fetched_at_once() -> None:
    hosts: Any = SlowHosts(4)
    sms: Any = None
    tested = Composer(templates_of(NotificationSettings()), hosts, complete, sms)
    mail = await tested.email(
        claim(
            channel=Channel.EMAIL,
            kind=Kind.ORDER_EMAIL,
            email="ada@example.com",
            invoices=tuple(map(document, range(4))),
        )
    )
    assert [one.filename for one in mail.attachments] == ["i-0", "i-1", "i-2", "i-3"]
