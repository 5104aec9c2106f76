"""What an invoice of our own states, written for its reader: invoice_pdf.py sets it."""

from datetime import datetime

import msgspec


class InvoiceLabels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words of an invoice in one language: invoice.toml of its templates."""

    title: str
    number: str
    order: str
    date: str
    customer: str
    item: str
    quantity: str
    amount: str
    total: str
    page: str


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """What an invoice states, written for its reader. `lines`: title, quantity, amount."""

    labels: InvoiceLabels
    shop: str
    number: str
    order: str
    date: str
    issued_at: datetime
    customer: str
    total: str
    lines: tuple[tuple[str, str, str], ...]

    def texts(self) -> list[str]:
        """Return every text there is in it."""
        own = [self.shop, self.number, self.order, self.date, self.customer, self.total]
        return [*own, *msgspec.structs.astuple(self.labels), *(text for line in self.lines for text in line)]
