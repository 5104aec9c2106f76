"""The documents of invoices: inline, or fetched from an allowed host."""

from urllib.parse import urlsplit

import aiohttp

from pipeline.errors import DocumentError, DocumentUnavailableError
from pipeline.notifications.notification import Attachment
from pipeline.storage.outbox import InvoiceDocument

_OK = 200
_GONE = (400, 404, 410)
_READ_BYTES = 65_536


class DocumentFetcher:
    """Makes attachments of invoice documents. The host was checked when the event came in."""

    def __init__(self, *, timeout_s: float, document_bytes_max: int, hosts: tuple[str, ...]) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._bytes_max = document_bytes_max
        self._hosts = frozenset(host.lower() for host in hosts)
        self._session: aiohttp.ClientSession | None = None

    async def attachment(self, invoice: InvoiceDocument) -> Attachment:
        """Return an invoice as an attachment.

        Raises DocumentUnavailableError (worth another try) or DocumentError (never will be).
        """
        content = invoice.content
        if content is None:
            content = await self._fetch(invoice)
        return Attachment(
            filename=_filename(invoice),
            media_type=invoice.media_type,
            content=content,
            invoice_id=invoice.invoice_id,
        )

    async def _fetch(self, invoice: InvoiceDocument) -> bytes:
        url = invoice.url or ""
        # Checked again, because the list may have been shortened since the event was stored.
        if _host(url) not in self._hosts:
            raise DocumentError(invoice.invoice_id, "its host is not in intake.document_hosts")
        if self._session is None:
            # One customer's cookies have no place in the next one's request.
            self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status in _GONE:
                    raise DocumentError(invoice.invoice_id, f"the host answered {response.status}")
                if response.status != _OK:
                    raise DocumentUnavailableError(invoice.invoice_id, f"the host answered {response.status}")
                return await self._read(response, invoice.invoice_id)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise DocumentUnavailableError(
                invoice.invoice_id, f"{type(error).__name__} at its host"
            ) from error

    async def _read(self, response: aiohttp.ClientResponse, invoice_id: str) -> bytes:
        """Read a body, but never more than the limit, whatever its length claims to be."""
        content = bytearray()
        async for chunk in response.content.iter_chunked(_READ_BYTES):
            content += chunk
            if len(content) > self._bytes_max:
                raise DocumentError(invoice_id, f"more than {self._bytes_max} bytes")
        if not content:
            raise DocumentError(invoice_id, "the document is empty")
        return bytes(content)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _host(url: str) -> str:
    """Return a URL's host with its port; empty for what is no URL, which is for each Python to say."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _filename(invoice: InvoiceDocument) -> str:
    """Return a harmless file name: upstream's where it has nothing but plain characters, else our own."""
    name = invoice.filename or ""
    if name and not name.startswith(".") and all(c.isascii() and (c.isalnum() or c in "-_. ") for c in name):
        return name
    number = "".join(
        c for c in invoice.number or invoice.invoice_id if c.isascii() and (c.isalnum() or c in "-_")
    )
    suffix = ".pdf" if invoice.media_type == "application/pdf" else ""
    return f"invoice-{number or 'document'}{suffix}"
