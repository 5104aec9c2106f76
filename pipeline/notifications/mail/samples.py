"""Messages of nobody, for checks of templates and for previews."""

from datetime import UTC, datetime
from uuid import UUID

import orjson
from msgspec.structs import replace

from pipeline.notifications.mail.words import LINES_SHOWN_MAX, NAME_CHARS_MAX, TITLE_CHARS_MAX
from pipeline.storage.outbox import Channel, Claim, InvoiceDocument, Kind

SAMPLE_TO = "ada@example.com"
SAMPLE_URL = "https://shop.example/unsubscribe/sample"
_NAMES = {"hi": "आदित्य", "kk": "Айгерім", "de": "Jürgen", "fr": "Zoé", "es": "Íñigo"}
NUMBER_CHARS_MAX = 64  # of an order or invoice, by the contract of events
_CURRENCIES = {"hi": "INR", "kk": "KZT", "en": "USD"}
_LINES: list[dict[str, object]] = [
    {"sku": "LP-77", "quantity": 2, "unit_price": "29.95", "title": "Blue Train (LP, 180 g)"},
    {"sku": "CD-12", "quantity": 1, "unit_price": "14.50", "title": "Kind of Blue"},
    {
        "sku": "BX-3",
        "quantity": 12,
        "unit_price": "1249.00",
        "title": "The Complete Recordings, remastered, in a box with a book of photographs and essays",
    },
]
_YEN_LINE: dict[str, object] = {**_LINES[0], "unit_price": "3600"}


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
        "lines": _json(_LINES),
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
    line, one_more = _LINES[0], LINES_SHOWN_MAX + 1
    plain = sample_claim(kind, locale)
    first = sample_invoice(plain.currency)
    invoices = (first, replace(first, invoice_id="invoice-2", number="2026-0043"))
    return {
        "plain": plain,
        "without a name": sample_claim(kind, locale, name=""),
        "with its invoice": sample_claim(kind, locale, invoices=invoices[:1]),
        "with two invoices": sample_claim(kind, locale, invoices=invoices),
        "one line longer than is shown": sample_claim(kind, locale, lines=_json([line] * one_more)),
        "longer than is shown": sample_claim(kind, locale, lines=_json([line] * (one_more + 6))),
        "without lines": sample_claim(kind, locale, lines="[]"),
        "in yen": sample_claim(kind, locale, currency="JPY", total="7200.0000", lines=_json([_YEN_LINE])),
        "long": long_claim(kind, locale),
    }


def long_claim(kind: Kind, locale: str) -> Claim:
    """Return a claim with long values in which no line can be broken."""
    number = "4096-" + "W" * (NUMBER_CHARS_MAX - 5)
    line = {"sku": "X", "quantity": 1000, "unit_price": "1234567.89", "title": "W" * TITLE_CHARS_MAX}
    invoice = replace(sample_invoice(), number=number)
    return sample_claim(
        kind,
        locale,
        name="W" * NAME_CHARS_MAX,
        number=number,
        total="99999999999999.9999",
        lines=_json([line]),
        invoices=(invoice,) if kind is Kind.INVOICE_EMAIL else (),
    )


def _json(lines: list[dict[str, object]]) -> str:
    return orjson.dumps(lines).decode()
