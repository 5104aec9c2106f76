"""What a read returns. Amounts are decimal text; times carry their offset."""

from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from pipeline.reading.consistency import Token

T = TypeVar("T")


class Customer(msgspec.Struct, frozen=True):
    """Whom an order is for. Personal data: never to be logged."""

    id: str | None
    name: str | None
    email: str | None
    phone: str | None
    locale: str | None
    country: str | None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order as upstream reported it."""

    order_id: str
    slot: int
    number: str | None
    customer: Customer
    currency: str
    total: str
    lines: list[dict[str, Any]]
    processed_at: datetime
    recorded_at: datetime
    source: str
    event_id: str


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice without its document. `effect_id`: the message that carries it; None while it waits."""

    invoice_id: str
    order_id: str
    slot: int
    number: str | None
    currency: str
    total: str
    issued_at: datetime
    media_type: str
    filename: str | None
    document_bytes: int | None
    document_url: str | None
    effect_id: UUID | None
    recorded_at: datetime


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An SMS or e-mail owed, and what became of it."""

    effect_id: UUID
    kind: str
    channel: str
    state: str
    invoice_id: str | None
    attempts: int
    due_at: datetime
    accepted_at: datetime | None
    provider: str | None
    provider_id: str | None
    reason: str | None


class OrderView(msgspec.Struct, frozen=True):
    """Everything about an order. `order` is None when only its invoices have come so far, or nothing has."""

    order: Order | None
    invoices: list[Invoice]
    messages: list[Message]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing of this order."""
        return self.order is None and not self.invoices


class OrderLine(msgspec.Struct, frozen=True, kw_only=True):
    """An order in a list."""

    order_id: str
    slot: int
    number: str | None
    currency: str
    total: str
    processed_at: datetime


class SlotSums(msgspec.Struct, frozen=True, array_like=True):
    """How many slots a shard owns, the sum of their numbers, and the sum of their squares."""

    count: int
    sum: int
    squares: int


class InvoicesPart(msgspec.Struct, frozen=True):
    """One shard's part of a search for an invoice."""

    invoices: list[Invoice]
    slots: SlotSums


class CustomerPart(msgspec.Struct, frozen=True, kw_only=True):
    """One shard's part of a customer: the person, on one shard at most, and orders."""

    person: Customer | None
    updated_at: datetime | None
    opted_out: list[str]
    orders: list[OrderLine]
    slots: SlotSums


class CustomerView(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's orders, the latest first, and the person where upstream has told us of it.

    `more`: there are more orders than were asked for. `opted_out`: channels that the person does not want.
    """

    customer_id: str
    person: Customer | None
    updated_at: datetime | None
    opted_out: list[str]
    orders: list[OrderLine]
    more: bool

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of this customer."""
        return self.person is None and not self.orders


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Who answered. `asked` counts the servers asked, `ms` the time until the answer.

    `role` is what the server was when it answered, whatever the settings call it; `address` is its own.
    """

    shard: str
    role: str
    address: str
    asked: int
    ms: float


class Answer(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A value, who it came from, and tokens to read on from there: one for each shard that answered."""

    value: T
    served: tuple[Served, ...]
    tokens: tuple[Token, ...]
