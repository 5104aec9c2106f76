"""The story of an order's messages: what is known of each moment, in order of time."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consumers.get_report import first_letter, last_digits, masked_address
from pipeline.observability.correlation import correlation_id
from pipeline.storage.effect_desk import Effect, StoredInvoice, StoredOrder, Story
from pipeline.storage.outbox import State

_ACCEPTED = (State.ACCEPTED, State.DELIVERED, State.UNDELIVERED)
_WORDS = {
    "retry": "put off",
    "unknown": "outcome unknown",
    "asked": "provider asked",
    "resolved": "resolved",
    "status": "provider says something else",
    "stale_receipt": "a late receipt",
}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. `effect_id` None: to the order or to an invoice, not to a message."""

    at: datetime
    about: str
    what: str
    detail: str = ""
    by: str = ""
    effect_id: UUID | None = None


def without_contacts(story: Story) -> Story:
    """Return the same with the customer's name, address and number cut short."""
    order = story.order
    if order is None:
        return story
    hidden = msgspec.structs.replace(
        order,
        customer_name=first_letter(order.customer_name),
        email=masked_address(order.email),
        phone=last_digits(order.phone),
    )
    return msgspec.structs.replace(story, order=hidden)


def entries_of(story: Story) -> list[Entry]:
    """Return what happened, in order of time."""
    found = [*_of_order(story.order), *(one for invoice in story.invoices for one in _of_invoice(invoice))]
    names = {effect.effect_id: _name(effect) for effect in story.effects}
    for effect in story.effects:
        found += _of_effect(effect)
    for note in story.notes:
        detail = " ".join(filter(None, (note.detail, note.provider and f"({note.provider})")))
        found.append(
            Entry(
                at=note.at,
                about=names[note.effect_id],
                what=_WORDS.get(note.what, note.what),
                detail=detail,
                by=note.actor,
                effect_id=note.effect_id,
            )
        )
    return sorted(found, key=lambda entry: entry.at)


def _of_order(order: StoredOrder | None) -> Iterator[Entry]:
    if order is None:
        return
    if order.event_time is not None:
        yield Entry(
            at=order.event_time, about="order", what="event", detail=f"by {order.event_source}'s clock"
        )
    yield Entry(at=order.recorded_at, about="order", what="stored", detail=f"event {order.event_id}")


def _of_invoice(invoice: StoredInvoice) -> Iterator[Entry]:
    about = f"invoice {invoice.invoice_id}"
    if invoice.event_time is not None:
        yield Entry(at=invoice.event_time, about=about, what="event", detail="by upstream's clock")
    carrier = (
        f"goes with message {invoice.effect_id.hex[:12]}" if invoice.effect_id else "waits for a message"
    )
    alone = ", alone: its document could not be had in time" if invoice.travels_alone else ""
    yield Entry(at=invoice.recorded_at, about=about, what="stored", detail=carrier + alone)


def _of_effect(effect: Effect) -> Iterator[Entry]:
    def entry(at: datetime, what: str, detail: str = "") -> Entry:
        return Entry(at=at, about=_name(effect), what=what, detail=detail, effect_id=effect.effect_id)

    yield entry(effect.created_at, "owed", f"trace {effect.trace_id}" if effect.trace_id else "")
    if effect.claimed_at is not None:
        yield entry(effect.claimed_at, "claimed", f"try {effect.attempts}")
    if effect.accepted_at is not None and effect.state in _ACCEPTED:
        by = " as ".join(filter(None, (effect.provider, effect.provider_id)))
        yield entry(effect.accepted_at, "accepted", f"by {by}" if by else "")
    if effect.provider_status and effect.provider_status_at is not None:
        yield entry(effect.provider_status_at, f"provider says {effect.provider_status}")
    if effect.settled_at is not None:
        yield entry(effect.settled_at, effect.state, effect.reason or "")
    if effect.state is State.PENDING:
        yield entry(effect.due_at, "due", effect.reason or "")
    if effect.state is State.SUBMITTING and effect.lease_until is not None:
        yield entry(effect.lease_until, "lease ends", "unknown from then on, should no receipt come")


def _name(effect: Effect) -> str:
    return f"{effect.kind} {effect.effect_id.hex[:12]}"


def print_entries(entries: list[Entry], console: Console) -> None:
    """Print entries, a line each."""
    table = Table("time (UTC)", "about", "what", "detail", "by")
    for entry in entries:
        at = f"{entry.at:%Y-%m-%d %H:%M:%S}.{entry.at.microsecond // 1000:03d}"
        table.add_row(at, *map(_plain, (entry.about, entry.what, entry.detail, entry.by)))
    console.print(table)


def order_table(order: StoredOrder) -> Table:
    """Return what an order's messages are made of."""
    table = Table(show_header=False)
    table.add_row("order", _plain(order.order_id))
    table.add_row("correlation id", correlation_id(order.order_id))
    table.add_row("number", _plain(order.number))
    table.add_row("recipient", _plain(_recipient(order)))
    return table


def effect_table(effect: Effect, order: StoredOrder | None) -> Table:
    """Return where a message stands."""
    table = Table(show_header=False)
    rows = {
        "message": f"{effect.effect_id}, {effect.kind} by {effect.channel}",
        "order": effect.order_id,
        "invoice": effect.invoice_id,
        "recipient": _recipient(order) if order else "",
        "state": f"{effect.state}, {effect.attempts} tries",
        "reason": effect.reason,
        "trace": effect.trace_id,
        "provider": " ".join(filter(None, (effect.provider, effect.provider_id, effect.provider_status))),
        "of use until": f"{effect.expires_at:%Y-%m-%d %H:%M:%S %Z}",
        "where": f"{effect.shard}, slot {effect.slot}",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, _plain(value))
    return table


def _recipient(order: StoredOrder) -> str:
    known = (order.customer_id, order.customer_name, order.email, order.phone, order.locale, order.country)
    return ", ".join(text for text in known if text)


def _plain(text: str | None) -> str:
    """Return a text that cannot do anything to a terminal or a table."""
    return escape("".join(char if char.isprintable() else ascii(char)[1:-1] for char in text or ""))
