"""Makes the documents of invoices that came without one, off the event loop's thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from pipeline.errors import DocumentError, DocumentUnavailableError
from pipeline.notifications.mail.invoice import Invoice
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.notification import Attachment
from pipeline.storage.outbox import Claim, InvoiceDocument

_WAITING_MAX = 64


class InvoiceMaker:
    """Makes one invoice at a time, so that their work does not crowd the loop out."""

    def __init__(self, templates: Templates, *, timeout_s: float = 10.0) -> None:
        self._templates = templates
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(1, "invoices")
        self._waiting = 0

    async def attachment(self, claim: Claim, invoice: InvoiceDocument) -> Attachment:
        """Return an invoice as an attachment.

        Raises DocumentUnavailableError when that takes too long, DocumentError when it cannot be made.
        """
        if self._waiting >= _WAITING_MAX:
            raise DocumentUnavailableError(invoice.invoice_id, "too many are being made")
        self._waiting += 1
        try:
            facts = self._templates.invoice(claim, invoice)
            making = asyncio.get_running_loop().run_in_executor(self._thread, _made, facts)
            content = await asyncio.wait_for(making, self._timeout_s)
        except TimeoutError as error:
            raise DocumentUnavailableError(invoice.invoice_id, f"not made in {self._timeout_s} s") from error
        except (UnicodeError, LookupError, ValueError, TypeError) as error:
            why = type(error.__cause__ or error).__name__
            raise DocumentError(invoice.invoice_id, f"cannot be made: {why}") from error
        finally:
            self._waiting -= 1
        return Attachment(
            filename=f"invoice-{_plain(facts.number)}.pdf",
            media_type="application/pdf",
            content=content,
            invoice_id=invoice.invoice_id,
        )


def _made(facts: Invoice) -> bytes:
    """Return the PDF. What makes it is imported on the thread, when there is the first one to be made.

    Nothing else needs it, and with the libraries for fonts and pictures it takes half of a command's start.
    """
    from fpdf.errors import FPDFException  # noqa: PLC0415  # see above

    from pipeline.notifications.mail.invoice_pdf import invoice_pdf  # noqa: PLC0415

    try:
        return invoice_pdf(facts)
    except FPDFException as error:
        raise ValueError from error


def _plain(number: str) -> str:
    return "".join(c for c in number if c.isascii() and (c.isalnum() or c in "-_")) or "document"
