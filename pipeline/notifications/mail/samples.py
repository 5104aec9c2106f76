"""Messages of nobody, for checks of templates and for previews."""

from datetime import UTC, datetime
from uuid import UUID

import orjson

from pipeline.notifications.mail.words import LINES_SHOWN_MAX
from pipeline.storage.outbox import Channel, Claim, InvoiceDocument, Kind

SAMPLE_TO = "ada@example.com"
SAMPLE_URL = "https://shop.example/unsubscribe/sample"
_NAMES = {"hi": "आदित्य", "kk": "Айгерім", "de": "Jürgen", "fr": "Zoé", "es": "Íñigo"}
_CURRENCIES = {"hi": "INR", "kk": "KZT", "en": "USD"}
_LINES = [
    {"sku": "LP-77", "quantity": 2, "unit_price": "29.95", "title": "Blue Train (LP, 180 g)"},
    {"sku": "CD-12", "quantity": 1, "unit_price": "14.50", "title": "Kind of Blue"},
    {
        "sku": "BX-3",
        "quantity": 12,
        "unit_price": "1249.00",
        "title": "The Complete Recordings, remastered, in a box with a book of photographs and essays",
    },
]


def sample_claim(kind: Kind, locale: str, *, name: str | None = None, **changes: object) -> Claim:
    """Return a claim such as the outbox hands out, about an order of three lines."""
    channel = Channel.SMS if kind is Kind.ORDER_SMS else Channel.EMAIL
    language = locale.partition("-")[0]
    values: dict[str, object] = {
        "shard": "sample",
        "slot": 0,
        "effect_id": UUID(int=1),
        "claim_id": UUID(int=2),
        "channel": channel,
        "kind": kind,
        "order_id": "order-1001",
        "invoice_id": "invoice-1" if kind is Kind.INVOICE_EMAIL else None,
        "attempt": 1,
        "is_expired": False,
        "created_at": datetime(2026, 3, 14, 9, 26, tzinfo=UTC),
        "event_time": None,
        "number": "1001",
        "customer_name": name if name is not None else _NAMES.get(language, "Ada"),
        "email": SAMPLE_TO,
        "phone": "+14155550123",
        "locale": locale,
        "country": None,
        "currency": _CURRENCIES.get(language, "EUR"),
        "total": "15062.40",
        "lines": orjson.dumps(_LINES).decode(),
        "invoices": (sample_invoice(_CURRENCIES.get(language, "EUR")),) if kind is Kind.INVOICE_EMAIL else (),
    }
    return Claim(**{**values, **changes})  # type: ignore[arg-type]


def sample_invoice(currency: str = "EUR") -> InvoiceDocument:
    """Return an invoice for which upstream sent no document."""
    return InvoiceDocument(
        invoice_id="invoice-1",
        number="2026-0042",
        currency=currency,
        total="15062.40",
        media_type="application/pdf",
        filename=None,
        content=None,
        url=None,
    )


def sample_variants(kind: Kind, locale: str) -> dict[str, Claim]:
    """Return claims that together go through every branch of a template, by what is special."""
    lines = orjson.dumps([_LINES[0]] * (LINES_SHOWN_MAX + 7)).decode()
    plain = sample_claim(kind, locale)
    invoices = (sample_invoice(), sample_invoice())
    return {
        "plain": plain,
        "no name": sample_claim(kind, locale, name=""),
        "with its invoice": sample_claim(kind, locale, invoices=invoices[:1]),
        "with two invoices": sample_claim(kind, locale, invoices=invoices),
        "more lines than are shown": sample_claim(kind, locale, lines=lines),
        "no lines": sample_claim(kind, locale, lines="[]"),
        "yen": sample_claim(kind, locale, currency="JPY", total="1200.0000"),
    }
