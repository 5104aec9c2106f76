"""Persons: what `customer.updated` says of them, written with the batch it came in and read set-wise."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from asyncpg.pool import PoolConnectionProxy

from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.node import Node
from pipeline.storage.rows import CustomerRow
from pipeline.storage.statements import load_statements

CHANGED: Final = "postorder_customers"
"""The channel of NOTIFY. Its payload: the slots in which persons changed, separated by spaces, or `all`."""

STATEMENTS: Final = load_statements("customers.sql")
_CUSTOMER_COLUMNS, _CONSENT_COLUMNS = 10, 5


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a person. `opted_out` are channels. Contact details are as upstream gave them.

    `recorded_at`: since when they are known here, by the shard's clock.
    """

    is_known: bool
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    locale: str | None = None
    country: str | None = None
    recorded_at: datetime | None = None
    opted_out: tuple[str, ...] = ()


class PersonsRead(msgspec.Struct, frozen=True):
    """An answer: persons by customer id, and the customers that the server may not speak for.

    `lsn` is how far a replica had replayed before it answered; None: the server is a primary.
    """

    persons: dict[str, Person]
    not_owned: frozenset[str]
    lsn: int | None


async def store_customers(connection: PoolConnectionProxy, rows: Sequence[CustomerRow]) -> None:
    """Write what events say of persons, inside the transaction of their batch. One round trip."""
    newest: dict[str, CustomerRow] = {}
    consents: dict[tuple[str, str], tuple[str, CustomerRow]] = {}
    for row in rows:
        known = newest.setdefault(row.customer_id, row)
        if row.updated_at > known.updated_at:
            newest[row.customer_id] = row
        for channel, state in (("sms", row.sms_consent), ("email", row.email_consent)):
            if state is not None:
                _, other = consents.setdefault((row.customer_id, channel), (state, row))
                if row.updated_at > other.updated_at:
                    consents[row.customer_id, channel] = (state, row)
    # Sorted, so that two transactions lock in the same order.
    customers = [_customer_values(newest[customer_id]) for customer_id in sorted(newest)]
    agreed: list[tuple[int, str, str, str, datetime]] = [
        (row.slot, customer_id, channel, state, row.updated_at)
        for (customer_id, channel), (state, row) in sorted(consents.items(), key=_by_key)
    ]
    await connection.execute(
        STATEMENTS["store_customers"],
        *_columns(customers, _CUSTOMER_COLUMNS),
        *_columns(agreed, _CONSENT_COLUMNS),
    )


async def read_persons(
    node: Node, wanted: Sequence[tuple[int, str]], *, asks_lsn: bool = True
) -> PersonsRead:
    """Return what one server knows of persons, given as slot and customer id.

    `asks_lsn`: how far it is as well, which is nothing to ask a primary: a round trip more. Raises
    StorageUnavailableError, StorageTimeoutError.
    """
    async with node.connection() as connection:
        lsn = await connection.fetchval(STATEMENTS["replayed_up_to"]) if asks_lsn else None
        rows = await connection.fetch(STATEMENTS["read_persons"], *_columns(wanted, 2))
    return PersonsRead(
        {row["customer_id"]: _person(row) for row in rows if row["owned"]},
        frozenset(row["customer_id"] for row in rows if not row["owned"]),
        lsn,
    )


def parse_notice(payload: str) -> frozenset[int] | None:
    """Return the slots that a notice names; None for all of them, also when it makes no sense."""
    words = payload.split()
    if not words or not all(word.isascii() and word.isdecimal() for word in words):
        return None
    slots = frozenset(map(int, words))
    return slots if max(slots) < SLOT_COUNT else None


def _by_key(item: tuple[tuple[str, str], Any]) -> tuple[str, str]:
    return item[0]


def _customer_values(row: CustomerRow) -> tuple[Any, ...]:
    return (
        row.slot, row.customer_id, row.name, row.email, row.phone, row.locale, row.country, row.updated_at,
        row.event_source, row.event_id,
    )  # fmt: skip


def _columns(rows: Iterable[tuple[Any, ...]], count: int) -> list[tuple[Any, ...]]:
    """Turn rows into the column arrays that `unnest` takes, also when there are none."""
    return list(zip(*rows, strict=True)) or [()] * count


def _person(row: Any) -> Person:
    return Person(
        is_known=row["known"],
        name=row["name"],
        email=row["email"],
        phone=row["phone"],
        locale=row["locale"],
        country=row["country"],
        recorded_at=row["recorded_at"],
        opted_out=tuple(row["opted_out"]),
    )
