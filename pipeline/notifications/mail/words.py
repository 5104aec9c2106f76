"""What a template gets to see of a claim: texts made harmless, amounts and dates written for the locale."""

from datetime import tzinfo
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.notifications.mail.invoice import Invoice, InvoiceLabels
from pipeline.notifications.mail.locales import Style, plural_form
from pipeline.notifications.sms.text import holds_link
from pipeline.storage.outbox import Claim, InvoiceDocument

NAME_CHARS_MAX = 60
TITLE_CHARS_MAX = 200
LINES_SHOWN_MAX = 50


class _Line(msgspec.Struct):
    sku: str
    quantity: int
    unit_price: str
    title: str | None = None


_decode_lines = msgspec.json.Decoder(list[_Line]).decode


VALUES = ("name", "number", "date", "total", "invoices", "unsubscribe_url")
LINE_VALUES = ("quantity", "title", "amount")
COUNTS = ("invoice_count", "lines_left_out")
FORMS = tuple(f"{name}_form" for name in COUNTS)
SETTINGS = ("shop", "language", "text_direction")


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What a message is filled with. `values`: those of VALUES, then those of each line, in their order.

    A value that there is none of is empty.
    """

    shop: str
    language: str
    text_direction: str
    values: list[str]
    invoice_count: int = 0
    lines_left_out: int = 0

    @property
    def shape(self) -> tuple[Any, ...]:
        """What two messages have in common that differ in nothing but their values."""
        return self.language, self.invoice_count, self.lines_left_out, *map(bool, self.values)

    def variables(self) -> dict[str, Any]:
        """Return the variables of templates; docs/how-to/change-a-template.md lists them."""
        first, width = len(VALUES), len(LINE_VALUES)
        rows = (self.values[at : at + width] for at in range(first, len(self.values), width))
        lines: list[dict[str, Any]] = [dict(zip(LINE_VALUES, row, strict=True)) for row in rows]
        for line in lines:
            if line["quantity"].isdecimal():  # and not a mark
                line["quantity"] = int(line["quantity"])
        return {
            **dict(zip(VALUES, self.values, strict=False)),
            "lines": lines,
            **{name: getattr(self, name) for name in (*COUNTS, *SETTINGS)},
            **{
                form: plural_form(self.language, getattr(self, name))
                for form, name in zip(FORMS, COUNTS, strict=True)
            },
        }


def words_of(
    claim: Claim, style: Style, *, shop: str, zone: tzinfo, unsubscribe_url: str | None = None
) -> Words:
    """Return what a mail is filled with."""
    lines = _decode_lines(claim.lines)
    invoices = [one_line(invoice.number or invoice.invoice_id) for invoice in claim.invoices]
    values = [
        one_line(claim.customer_name or "")[:NAME_CHARS_MAX],
        one_line(claim.number or claim.order_id),
        style.date((claim.event_time or claim.created_at).astimezone(zone).date()),
        style.money(claim.total, claim.currency),
        style.listed(invoices),
        unsubscribe_url or "",
    ]
    for line in lines[:LINES_SHOWN_MAX]:
        title = one_line(line.title or line.sku)[:TITLE_CHARS_MAX]
        values += (str(line.quantity), title, style.money(_amount(line), claim.currency))
    return Words(
        shop=shop,
        language=style.language,
        text_direction=style.text_direction,
        values=values,
        invoice_count=len(invoices),
        lines_left_out=max(0, len(lines) - LINES_SHOWN_MAX),
    )


def sms_words_of(claim: Claim, style: Style, *, shop: str, zone: tzinfo) -> Words:
    """Return what an SMS is filled with: as a mail, but without lines, and its total in plain letters."""
    name = one_line(claim.customer_name or "")[:NAME_CHARS_MAX]
    return Words(
        shop=shop,
        language=style.language,
        text_direction=style.text_direction,
        values=[
            "" if holds_link(name) else name,
            one_line(claim.number or claim.order_id),
            style.date((claim.event_time or claim.created_at).astimezone(zone).date()),
            style.plain_money(claim.total, claim.currency),
            "",
            "",
        ],
    )


def invoice_of(
    claim: Claim, invoice: InvoiceDocument, style: Style, *, labels: InvoiceLabels, shop: str, zone: tzinfo
) -> Invoice:
    """Return what an invoice of our own states: the order's lines, and the invoice's total."""
    issued_at = (invoice.issued_at or claim.created_at).astimezone(zone)
    return Invoice(
        labels=labels,
        shop=shop,
        number=one_line(invoice.number or invoice.invoice_id),
        order=one_line(claim.number or claim.order_id),
        date=style.date(issued_at.date()),
        issued_at=issued_at,
        customer=one_line(claim.customer_name or ""),
        total=style.money(invoice.total, invoice.currency),
        lines=tuple(
            (one_line(line.title or line.sku), str(line.quantity), style.money(_amount(line), claim.currency))
            for line in _decode_lines(claim.lines)
        ),
    )


def _amount(line: _Line) -> str:
    return line.unit_price if line.quantity == 1 else f"{Decimal(line.unit_price) * line.quantity:f}"


def printable(text: str) -> str:
    """Return a text without control and format characters; upstream's data may hold any."""
    return text if text.isprintable() else "".join(c for c in text if c.isprintable())


def one_line(text: str) -> str:
    """Return a text as one line of printable characters; white space of any kind and length is one space."""
    if text.isprintable() and "  " not in text:
        return text.strip()
    return " ".join(filter(None, map(printable, text.split())))
