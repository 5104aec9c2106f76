"""Rows as the writer takes them: what an event becomes. Ids and hashes are 16 bytes.

Structs rather than tuples: five times as quick to build, and untracked by the garbage collector.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec


class OrderRow(msgspec.Struct, gc=False, eq=True):
    """An `order.processed` event, ready to be written. `lines` is JSON."""

    slot: int
    event_key: bytes
    payload_hash: bytes
    event_source: str
    event_id: str
    event_time: datetime | None
    order_id: str
    sms_id: bytes
    email_id: bytes
    number: str | None
    customer_id: str | None
    customer_name: str | None
    email: str | None
    phone: str | None
    locale: str | None
    country: str | None
    currency: str
    total: str
    lines: bytes
    processed_at: datetime


class InvoiceRow(msgspec.Struct, gc=False, eq=True):
    """An `invoice.generated` event, ready to be written. `email_id` is the effect id of the order's mail."""

    slot: int
    event_key: bytes
    payload_hash: bytes
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
    email_id: bytes


class QuarantineRow(msgspec.Struct, gc=False, eq=True):
    """A delivery that is no valid event, byte for byte. `headers` is JSON text."""

    slot: int
    quarantine_id: bytes
    reason: str
    detail: str
    queue: str
    exchange: str
    routing_key: str
    content_type: str | None
    message_id: str | None
    headers: str
    body: bytes


AnyRow = OrderRow | InvoiceRow | QuarantineRow

AsQuarantined = Callable[[int, str, str], QuarantineRow]
"""Makes the quarantine row of a batch's n-th event, from a reason and a detail."""


class Trigger(StrEnum):
    """What closed a batch."""

    SIZE = "size"
    TIMEOUT = "timeout"
    FLUSH = "flush"


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
