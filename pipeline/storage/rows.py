"""Rows as the writer takes them. The order of fields is the order of the parameters in intake.sql."""

from collections.abc import Callable
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar


class OrderRow(NamedTuple):
    """An `order.processed` event, ready to be written. Ids and hashes are 32 hexadecimal digits."""

    slot: int
    event_key: str
    payload_hash: str
    event_source: str
    event_id: str
    event_time: datetime | None
    order_id: str
    sms_id: str
    email_id: str
    number: str | None
    customer_id: str | None
    customer_name: str | None
    email: str | None
    phone: str | None
    locale: str | None
    country: str | None
    currency: str
    total: str
    lines: str
    processed_at: datetime


class InvoiceRow(NamedTuple):
    """An `invoice.generated` event, ready to be written."""

    slot: int
    event_key: str
    payload_hash: str
    event_source: str
    event_id: str
    event_time: datetime | None
    order_id: str
    invoice_id: str
    number: str | None
    currency: str
    total: str
    issued_at: datetime
    media_type: str
    filename: str | None
    document: bytes | None
    document_url: str | None
    email_id: str
    """The effect id of the order's mail; not a column, but what the invoice may travel with."""


class QuarantineRow(NamedTuple):
    """A delivery that is no valid event, byte for byte. `headers` is JSON text."""

    slot: int
    quarantine_id: str
    reason: str
    detail: str
    queue: str
    exchange: str
    routing_key: str
    content_type: str | None
    message_id: str | None
    headers: str
    body: bytes


AsQuarantined = Callable[[str, str], QuarantineRow]
"""Makes the quarantine row of a delivery from a reason and a detail."""


AnyRow = OrderRow | InvoiceRow | QuarantineRow
Row_co = TypeVar("Row_co", bound=AnyRow, covariant=True)


class Entry(NamedTuple, Generic[Row_co]):
    """One event on its way into a shard: its row, and how to quarantine it should that be refused."""

    row: Row_co
    as_quarantined: AsQuarantined


class BatchCounts(NamedTuple):
    """What became of the events of one batch."""

    orders: int
    invoices: int
    duplicates: int
    quarantined: int

    @property
    def events(self) -> int:
        """All of them."""
        return sum(self)
