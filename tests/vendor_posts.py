"""Webhooks as vendors send them: signed by an implementation of the test's own."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from upstream_documents import shopify_order, square_event, stripe_event

SHOPIFY_SECRET, SHOPIFY_BEFORE = "shpss_" + "a" * 32, "shpss_" + "b" * 32
STRIPE_SECRET, STRIPE_BEFORE = "whsec_" + "c" * 32, "whsec_" + "d" * 32
SQUARE_SECRET, SQUARE_BEFORE = "square-key-" + "e" * 11, "square-key-" + "f" * 11
SECRETS = {
    "shopify_secret": SHOPIFY_SECRET,
    "shopify_secret_previous": SHOPIFY_BEFORE,
    "stripe_secret": STRIPE_SECRET,
    "stripe_secret_previous": STRIPE_BEFORE,
    "square_secret": SQUARE_SECRET,
    "square_secret_previous": SQUARE_BEFORE,
}

JSON = {"Content-Type": "application/json"}


def body_of(document: Any) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def mac(secret: str, signed: bytes) -> bytes:
    return hmac.new(secret.encode(), signed, hashlib.sha256).digest()


def shopify(
    document: Any = None, *, secret: str = SHOPIFY_SECRET, webhook_id: str = "w-1", topic: str = "orders/paid"
) -> tuple[dict[str, str], bytes]:
    """Headers and body of an order that Shopify sends."""
    body = body_of(shopify_order() if document is None else document)
    headers = {
        "X-Shopify-Topic": topic,
        "X-Shopify-Hmac-Sha256": base64.b64encode(mac(secret, body)).decode(),
        "X-Shopify-Shop-Domain": "shop.example.com",
        "X-Shopify-Webhook-Id": webhook_id,
        "X-Shopify-Triggered-At": "2026-11-21T10:00:00.123456Z",
    }
    return {**JSON, **headers}, body


def stripe_header(body: bytes, *secrets: str, age_s: int = 0) -> str:
    at = int(time.time()) - age_s
    hashes = [mac(secret, f"{at}.".encode() + body).hex() for secret in secrets or (STRIPE_SECRET,)]
    return ",".join([f"t={at}", *(f"v1={one}" for one in hashes), "v0=" + "0" * 64])


def stripe(
    document: Any = None, *, secrets: tuple[str, ...] = (STRIPE_SECRET,), age_s: int = 0
) -> tuple[dict[str, str], bytes]:
    """Headers and body of an invoice that Stripe sends."""
    body = body_of(stripe_event() if document is None else document)
    header = stripe_header(body, *secrets, age_s=age_s)
    return {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": header}, body


def square(document: Any = None, *, url: str, secret: str = SQUARE_SECRET) -> tuple[dict[str, str], bytes]:
    """Headers and body of an invoice that Square sends to a URL."""
    body = body_of(
        square_event(public_url="https://squareup.com/pay-invoice/invtmp_1") if document is None else document
    )
    signature = base64.b64encode(mac(secret, url.encode() + body)).decode()
    return {**JSON, "x-square-hmacsha256-signature": signature}, body
