"""Documents of invoices are fetched for one customer at a time."""

from aiohttp import web

from pipeline.notifications.mail.documents import DocumentFetcher
from pipeline.storage.outbox import InvoiceDocument


async def test_a_host_s_cookies_do_not_go_along_with_the_next_customer_s() -> None:
    seen: list[str | None] = []

    async def document(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.Response(body=b"%PDF", headers={"Set-Cookie": "customer=ada; Path=/"})

    application = web.Application()
    application.router.add_get("/{name}", document)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0).start()
    port = runner.addresses[0][1]
    fetcher = DocumentFetcher(timeout_s=5, document_bytes_max=100, hosts=(f"localhost:{port}",))
    try:
        for name in ("1", "2"):
            await fetcher.attachment(
                InvoiceDocument(
                    invoice_id=name,
                    number=name,
                    currency="EUR",
                    total="1",
                    media_type="application/pdf",
                    filename=f"{name}.pdf",
                    content=None,
                    url=f"http://localhost:{port}/{name}",
                )
            )
    finally:
        await fetcher.close()
        await runner.cleanup()
    assert seen == [None, None]
