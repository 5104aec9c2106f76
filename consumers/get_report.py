"""What was found, for people: tables, without personal data unless asked for, and who answered."""

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consumers.tables import facts, print_records
from pipeline.adapters.currencies import minor_unit_digits
from pipeline.reading.views import Customer, CustomerView, Invoice, Message, Order, OrderView, Served


def order_without_personal_data(view: OrderView) -> OrderView:
    """Return the same with the customer's name, address and number cut short."""
    if view.order is None:
        return view
    order = msgspec.structs.replace(view.order, customer=_hidden(view.order.customer))
    return OrderView(order, view.invoices, view.messages)


def customer_without_personal_data(view: CustomerView) -> CustomerView:
    """Return the same with the person's name, address and number cut short."""
    return msgspec.structs.replace(view, person=view.person and _hidden(view.person))


def _hidden(customer: Customer) -> Customer:
    return Customer(
        id=customer.id,
        name=first_letter(customer.name),
        email=masked_address(customer.email),
        phone=last_digits(customer.phone),
        locale=customer.locale,
        country=customer.country,
    )


def first_letter(text: str | None) -> str | None:
    """Return a name cut short."""
    return text and f"{text[0]}…"


def last_digits(number: str | None) -> str | None:
    """Return a phone number cut short."""
    return number and f"…{number[-3:]}"


def masked_address(address: str | None) -> str | None:
    """Return an e-mail address with its local part cut short."""
    if not address:
        return address
    local, _, domain = address.rpartition("@")
    return f"{first_letter(local) or ''}@{domain}"


def money(total: str, currency: str) -> str:
    """Return an amount with as many decimals as its currency has, and more only where they are not zeros."""
    whole, _, fraction = total.partition(".")
    fraction = fraction.rstrip("0").ljust(minor_unit_digits(currency) or 0, "0")
    return f"{whole}.{fraction} {currency}" if fraction else f"{whole} {currency}"


def print_order(view: OrderView, console: Console) -> None:
    """Print an order, its invoices and its messages."""
    if view.order is not None:
        console.print(_order_table(view.order))
    else:
        console.print("the order itself has not come yet")
    if view.invoices:
        print_invoices(view.invoices, console)
    if view.messages:
        _print_messages(view.messages, console)


def _order_table(order: Order) -> Table:
    table = facts()
    table.add_row("order", _plain(order.order_id))
    table.add_row("number", _plain(order.number))
    table.add_row("total", f"{money(order.total, order.currency)}, {len(order.lines)} lines")
    table.add_row("processed", f"{order.processed_at:%Y-%m-%d %H:%M:%S %Z}")
    table.add_row("stored", f"{order.recorded_at:%Y-%m-%d %H:%M:%S %Z}")
    table.add_row("customer", _contact(order.customer))
    table.add_row("event", f"{_plain(order.source)} {_plain(order.event_id)}")
    return table


def _contact(customer: Customer) -> str:
    known = (
        customer.id, customer.name, customer.email, customer.phone, customer.locale, customer.country,
    )  # fmt: skip
    return ", ".join(_plain(text) for text in known if text)


def _print_messages(messages: list[Message], console: Console) -> None:
    names = ("message", "id", "channel", "state", "attempts", "due", "accepted", "provider id", "reason")
    records = [
        (
            message.kind,
            str(message.effect_id),
            message.channel,
            message.state,
            str(message.attempts),
            f"{message.due_at:%Y-%m-%d %H:%M:%S}",
            f"{message.accepted_at:%Y-%m-%d %H:%M:%S}" if message.accepted_at else "",
            _plain(message.provider_id),
            _plain(message.reason),
        )
        for message in messages
    ]
    print_records(names, records, console)


def print_invoices(invoices: list[Invoice], console: Console) -> None:
    """Print invoices, their documents by size or URL."""
    records = []
    for invoice in invoices:
        document = invoice.document_url or f"{invoice.document_bytes:,} bytes"
        records.append(
            (
                _plain(invoice.invoice_id),
                _plain(invoice.order_id),
                money(invoice.total, invoice.currency),
                f"{invoice.issued_at:%Y-%m-%d}",
                _plain(f"{invoice.media_type}, {document}"),
                f"message {invoice.effect_id}" if invoice.effect_id else "none yet",
            )
        )
    print_records(("invoice", "order", "total", "issued", "document", "carried by"), records, console)


def print_customer(view: CustomerView, console: Console) -> None:
    """Print a person and its orders."""
    if view.person is not None:
        person = facts()
        person.add_row("customer", _contact(view.person))
        person.add_row("since", f"{view.updated_at:%Y-%m-%d %H:%M:%S %Z}")
        person.add_row("does not want", ", ".join(view.opted_out) or "(nothing said)")
        console.print(person)
    records = [
        (
            _plain(order.order_id),
            _plain(order.number),
            money(order.total, order.currency),
            f"{order.processed_at:%Y-%m-%d %H:%M:%S}",
        )
        for order in view.orders
    ]
    print_records(("order", "number", "total", "processed"), records, console)


def served_line(served: Served) -> str:
    """Return one line that says who answered."""
    asked = "one server asked" if served.asked == 1 else f"{served.asked} servers asked"
    return f"answered by {served.shard} {served.role} at {served.address} in {served.ms:.1f} ms, {asked}"


def _plain(text: str | None) -> str:
    """Return a text that cannot do anything to a terminal or a table."""
    return escape("".join(char if char.isprintable() else ascii(char)[1:-1] for char in text or ""))
