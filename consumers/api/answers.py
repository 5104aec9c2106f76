"""What the API answers about orders, and how much of it a caller may see."""

from datetime import datetime
from typing import TypeVar
from uuid import UUID

import msgspec

from consumers.api.callers import Access, Caller
from consumers.get_report import customer_without_personal_data, order_without_personal_data
from consumers.timeline_report import Entry, entries_of, without_contacts
from pipeline.reading.views import (
    Answer,
    Customer,
    CustomerView,
    Invoice,
    Message,
    Order,
    OrderLine,
    OrderView,
    Served,
)
from pipeline.storage.effect_desk import Effect, StoredOrder, Story

T = TypeVar("T")


class OrderFound(msgspec.Struct, frozen=True, kw_only=True):
    """An order with its invoices and messages. `order` is null when only its invoices have come so far.

    `tokens`: given to a later read as `token`, that read shows no less. With the role `read` a name is its
    first letter, an address its first letter and its domain, a number its last three digits, and no URL of a
    document is shown.
    """

    order: Order | None
    invoices: list[Invoice]
    messages: list[Message]
    served: tuple[Served, ...]
    tokens: list[str]


class InvoicesFound(msgspec.Struct, frozen=True, kw_only=True):
    """Invoices without their documents."""

    invoices: list[Invoice]
    served: tuple[Served, ...]
    tokens: list[str]


class CustomerFound(msgspec.Struct, frozen=True, kw_only=True):
    """A person as upstream told of it, and its orders, the latest first. `more`: there are more orders.

    `opted_out`: channels that the person does not want.
    """

    customer_id: str
    person: Customer | None
    updated_at: datetime | None
    opted_out: list[str]
    orders: list[OrderLine]
    more: bool
    served: tuple[Served, ...]
    tokens: list[str]


class CustomerInvoices(msgspec.Struct, frozen=True, kw_only=True):
    """Invoices of a customer's latest orders. `more`: there are more orders than were looked at."""

    customer_id: str
    invoices: list[Invoice]
    more: bool


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to an order's messages, in order of time."""

    order: StoredOrder | None
    entries: list[Entry]


class EffectFound(msgspec.Struct, frozen=True, kw_only=True):
    """A message, whom its order is for, and what happened to it."""

    effect: Effect
    order: StoredOrder | None
    entries: list[Entry]


def sees_all(caller: Caller) -> bool:
    """Tell whether a caller is shown personal data uncut."""
    return caller.access.covers(Access.OPERATE)


def order_found(answer: Answer[OrderView], caller: Caller) -> OrderFound:
    """Return an order as a caller may see it."""
    view = answer.value if sees_all(caller) else order_without_personal_data(answer.value)
    return OrderFound(
        order=view.order,
        invoices=seen_by(caller, view.invoices),
        messages=view.messages,
        served=answer.served,
        tokens=_tokens(answer),
    )


def invoices_found(answer: Answer[list[Invoice]], caller: Caller) -> InvoicesFound:
    """Return invoices as a caller may see them."""
    invoices = seen_by(caller, answer.value)
    return InvoicesFound(invoices=invoices, served=answer.served, tokens=_tokens(answer))


def customer_found(answer: Answer[CustomerView], caller: Caller) -> CustomerFound:
    """Return a customer as a caller may see it."""
    view = answer.value if sees_all(caller) else customer_without_personal_data(answer.value)
    return CustomerFound(
        customer_id=view.customer_id,
        person=view.person,
        updated_at=view.updated_at,
        opted_out=view.opted_out,
        orders=view.orders,
        more=view.more,
        served=answer.served,
        tokens=_tokens(answer),
    )


def seen_by(caller: Caller, invoices: list[Invoice]) -> list[Invoice]:
    """Return invoices as a caller may see them: a document's URL may be all that it takes to read it."""
    if sees_all(caller):
        return invoices
    return [msgspec.structs.replace(one, document_url=None, filename=None) for one in invoices]


def timeline_of(story: Story, caller: Caller) -> Timeline:
    """Return a story as a caller may see it."""
    shown = story if sees_all(caller) else without_contacts(story)
    return Timeline(order=shown.order, entries=entries_of(shown))


def effect_found(effect: Effect, story: Story, caller: Caller) -> EffectFound:
    """Return a message and its part of the story as a caller may see it."""
    whole = timeline_of(story, caller)
    entries = [entry for entry in whole.entries if entry.effect_id in _either(effect.effect_id)]
    return EffectFound(effect=effect, order=whole.order, entries=entries)


def _either(effect_id: UUID) -> tuple[UUID | None, ...]:
    return (None, effect_id)


def _tokens(answer: Answer[T]) -> list[str]:
    return [str(token) for token in answer.tokens]
