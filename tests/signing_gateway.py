"""In front of the public listener: signs whatever comes, so that what is asked gets past the signatures."""

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import aiohttp
from aiohttp import web
from public_requests import bounce_headers
from public_site import ACCOUNT, BASE_URL, TOKEN, Site
from relay_reports import sendgrid_headers
from vendor_posts import SHOPIFY_SECRET, SQUARE_SECRET, mac, stripe_header
from yarl import URL

from pipeline.notifications.callbacks.forms import parse_form
from stack.twilio.signature import sign

_ANY_ACCOUNT = re.compile(rb"AC[0-9a-fA-F]{32}")


def genuine_target(path: str, site: Site) -> str:
    """Return a path whose link, if it has one, was given out."""
    for prefix, link in {"/twilio/status/": site.seal, "/unsubscribe/": site.token}.items():
        if path.startswith(prefix):
            return prefix + link
    return path


def signed(path: str, content_type: str, body: bytes) -> tuple[str, dict[str, str]]:
    """Return the target and the headers with which whoever it claims to be would have sent a body."""
    if path.startswith("/twilio/"):
        return _as_twilio(path, content_type, body)
    if path == "/mail/events/sendgrid":
        return path, sendgrid_headers(body)
    if path == "/mail/bounces":
        return path, dict(bounce_headers(body, webhook_id=f"msg_{sha256(body).hexdigest()}"))
    square = mac(SQUARE_SECRET, f"{BASE_URL}{path}".encode() + body)
    return path, {
        "X-Shopify-Hmac-Sha256": _base64(mac(SHOPIFY_SECRET, body)),
        "X-Shopify-Webhook-Id": sha256(body).hexdigest(),
        "X-Shopify-Topic": "orders/paid",
        "X-Shopify-Shop-Domain": "shop.example.com",
        "Stripe-Signature": stripe_header(body),
        "x-square-hmacsha256-signature": _base64(square),
    }


def _as_twilio(path: str, content_type: str, body: bytes) -> tuple[str, dict[str, str]]:
    if content_type.startswith("application/json"):
        target = f"{path}?bodySHA256={sha256(body).hexdigest()}"
        return target, {"X-Twilio-Signature": sign(TOKEN, BASE_URL + target, {})}
    try:
        fields = dict(parse_form(body))
    except Exception:  # noqa: BLE001  # nobody could sign what is no form
        fields = {}
    return path, {"X-Twilio-Signature": sign(TOKEN, BASE_URL + path, fields)}


def _base64(digest: bytes) -> str:

    return b64encode(digest).decode()


@asynccontextmanager
async def signing_gateway(site: Site) -> AsyncIterator[str]:
    """Run the gateway; yields its URL. Nothing else of a request or an answer is changed."""

    async def pass_on(request: web.Request) -> web.Response:
        body = await request.read()
        path = genuine_target(request.raw_path.partition("?")[0], site)
        body = _ANY_ACCOUNT.sub(ACCOUNT.encode(), body)
        target, proof = signed(path, request.content_type, body)
        kept = {n: v for n, v in request.headers.items() if n.lower() in _KEPT}
        url = URL(f"http://127.0.0.1:{site.port}{target}", encoded=True)
        async with client.request(
            request.method, url, data=body, headers={**proof, **kept}, allow_redirects=False
        ) as answer:
            headers = {n: v for n, v in answer.headers.items() if n.lower() not in _OWN}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)

    application = web.Application(client_max_size=4 * 2**20)
    application.router.add_route("*", "/{path:.*}", pass_on)
    runner = web.AppRunner(application)
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


_KEPT = {"accept-language", "content-type"}
_OWN = {"connection", "content-length", "date", "transfer-encoding"}
