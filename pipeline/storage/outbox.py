"""What the effect ledger is about: messages owed, claims on them, and receipts of what became of them."""

from collections import Counter
from datetime import datetime
from enum import StrEnum
from math import inf
from typing import NamedTuple
from uuid import UUID

import msgspec


class Channel(StrEnum):
    """How a message travels."""

    SMS = "sms"
    EMAIL = "email"


class Kind(StrEnum):
    """What a message is for."""

    ORDER_SMS = "order_sms"
    ORDER_EMAIL = "order_email"
    INVOICE_EMAIL = "invoice_email"


class State(StrEnum):
    """Where an owed message stands; DESIGN's effect ledger."""

    PENDING = "pending"
    SUBMITTING = "submitting"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    FAILED = "failed"
    ABANDONED = "abandoned"


class InvoiceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice that a claimed mail carries; `content`, `url` or neither: then one is made."""

    invoice_id: str
    number: str | None
    currency: str
    total: str
    media_type: str
    filename: str | None
    content: bytes | None
    url: str | None
    issued_at: datetime | None = None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A message this process alone may send, until its lease ends. `age_s`: since it was owed.

    `send_before`: on the monotonic clock, the middle of the lease; no call may begin later. The other half is
    for the call: the settings hold a provider's time-out to less than half a lease.
    `useful_until`: on the same clock, when the message expires.
    `due_at`: when it was to be claimed. `was_held`: it ever waited because a rule of ours said so.
    `trace_context`: the W3C context of the span that stored the event; None: it is not traced.
    """

    shard: str
    slot: int
    effect_id: UUID
    claim_id: UUID
    channel: Channel
    kind: Kind
    order_id: str
    invoice_id: str | None
    attempt: int
    is_expired: bool
    created_at: datetime
    event_time: datetime | None
    number: str | None
    customer_name: str | None
    email: str | None
    phone: str | None
    locale: str | None
    country: str | None
    currency: str
    total: str
    lines: str
    customer_id: str | None = None
    age_s: float = 0.0
    send_before: float = inf
    useful_until: float = inf
    invoices: tuple[InvoiceDocument, ...] = ()
    trace_context: str | None = None
    due_at: datetime | None = None
    was_held: bool = False


class Receipt(NamedTuple):
    """What became of a claimed message. The order of fields is that of record_receipts' parameters."""

    slot: int
    effect_id: UUID
    claim_id: UUID
    state: State
    provider: str | None = None
    provider_id: str | None = None
    reason: str | None = None
    accepted_at: datetime | None = None
    retry_in_s: float | None = None
    is_untried: bool = False


class Recorded(NamedTuple):
    """How many receipts came to each state, and how many were of a claim that was no longer held.

    What was given back untried, and what was known already, is in neither.
    """

    states: Counter[str]
    stale: int
