"""The intake transaction: a batch of events becomes rows on one shard, all or nothing."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from pipeline.errors import StorageConflictError
from pipeline.storage import copy_format as fmt
from pipeline.storage.customers import store_customers
from pipeline.storage.fence import FencedTransaction, prove_ownership
from pipeline.storage.node import Node
from pipeline.storage.rows import (
    AnyRow,
    AsQuarantined,
    BatchCounts,
    CustomerRow,
    EventRow,
    InvoiceRow,
    OrderRow,
    OwedTrace,
    Trigger,
)
from pipeline.storage.sorting import Sorting
from pipeline.storage.statements import INTAKE

_INBOX_COLUMNS = ("slot", "event_key", "payload_hash")
_ORDER_COLUMNS = (
    "slot", "order_id", "number", "customer_id", "customer_name", "email", "phone", "locale", "country",
    "currency", "total", "lines", "processed_at", "event_source", "event_id", "event_time",
)  # fmt: skip
_OUTBOX_COLUMNS = ("slot", "effect_id", "order_id", "channel", "kind", "due_at", "expires_at")
_INBOX_HEAD, _ORDER_HEAD, _OUTBOX_HEAD = (
    fmt.row_head(len(columns)) for columns in (_INBOX_COLUMNS, _ORDER_COLUMNS, _OUTBOX_COLUMNS)
)
FEW_MAX = 64
"""Up to so many events, one statement costs less than three COPYs of two round trips each (ADR 0008)."""

_AT_ONCE = timedelta()
_ORDER_PARAMETERS = len(_ORDER_COLUMNS) + 3  # and two effect ids, and when the mail is due
_SMS_KIND = fmt.text("sms") + fmt.text("order_sms")
_EMAIL_KIND = fmt.text("email") + fmt.text("order_email")


class IntakeWriter:
    """Writes batches to one shard's primary. Safe to call from several tasks."""

    def __init__(
        self, node: Node, *, grace_window_s: float, message_lifetime_s: float, few_max: int = FEW_MAX
    ) -> None:
        self._node = node
        self._few_max = few_max
        self._grace = timedelta(seconds=grace_window_s)
        self._lifetime = timedelta(seconds=message_lifetime_s)

    async def write(
        self,
        rows: Sequence[AnyRow],
        trigger: Trigger,
        as_quarantined: AsQuarantined,
        epoch: int | None = None,
        traces: Sequence[OwedTrace] = (),
    ) -> BatchCounts:
        """Write a batch in one transaction and return what became of its events.

        `epoch` is that of the map by which the batch was sent here; None has each slot looked up.
        `traces`: of messages that the batch will owe; those that it does not owe after all are passed over.
        After a normal return every event is durable on the primary and, where the shard is synchronous,
        on its replica. Raises SlotsMovedError (nothing was written), StorageUnavailableError,
        StorageTimeoutError (outcome unknown: write the batch again), StorageConflictError (write it again),
        StorageRejectedError (a row of it is bad).
        """
        try:
            return await self._write(rows, trigger, as_quarantined, epoch, traces, careful=False)
        except StorageConflictError:
            # Another transaction came between, or an order was brought before by another event.
            return await self._write(rows, trigger, as_quarantined, epoch, traces, careful=True)

    async def probe(self) -> None:
        """Commit something that leaves no row; return when it is durable as `write` promises."""
        async with self._node.connection() as connection:
            await connection.execute(INTAKE["probe"])

    async def _write(
        self,
        rows: Sequence[AnyRow],
        trigger: Trigger,
        as_quarantined: AsQuarantined,
        epoch: int | None,
        traces: Sequence[OwedTrace],
        *,
        careful: bool,
    ) -> BatchCounts:
        batch = Sorting(rows, as_quarantined)
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            events = batch.new_events()
            known = await connection.fetchrow(
                INTAKE["look"],
                [row.slot for row in events],
                [UUID(row.event_key) for row in events],
                [row.order_id for row in events],
            )
            if epoch is None or known["epoch"] != epoch or not known["is_settled"]:
                await prove_ownership(connection, self._node.name, {row.slot for row in rows})
            if events:
                await self._store(connection, batch, events, known, careful=careful)
            batch.settle_followers()
            if batch.quarantined:
                await _quarantine(connection, batch)
            if traces:
                await connection.execute(INTAKE["keep_traces"], *_columns(_trace_values(traces)))
            counts = batch.counts()
            record = INTAKE["record_intake_batch"].format(
                trigger=trigger.value, events=counts.events, **counts._asdict()
            )
            await transaction.commit(record)
        return counts

    async def _store(
        self,
        connection: PoolConnectionProxy,
        batch: Sorting,
        events: list[EventRow],
        known: Record,
        *,
        careful: bool,
    ) -> None:
        if known["keys"]:
            for slot, key, payload_hash in zip(known["slots"], known["keys"], known["hashes"], strict=True):
                batch.settle_known((slot, key.bytes), payload_hash.bytes)
            events = batch.new_events()
        if not events:
            return
        # The first event of an order makes it; reversed, so that the first one is what stays.
        orders = list({row.order_id: row for row in reversed(events) if isinstance(row, OrderRow)}.values())
        if orders and careful:
            orders = await _without_known(connection, orders)
        early = frozenset(known["early"] or ())
        if len(events) <= self._few_max:
            await self._store_few(connection, events, orders, early)
        else:
            await self._copy_all(connection, events, orders, known["now"], early)
        if invoices := [row for row in events if isinstance(row, InvoiceRow)]:
            await self._store_invoices(connection, invoices)
        if customers := [row for row in events if isinstance(row, CustomerRow)]:
            await store_customers(connection, customers)

    async def _store_few(
        self,
        connection: PoolConnectionProxy,
        events: list[EventRow],
        orders: list[OrderRow],
        early: frozenset[str],
    ) -> None:
        """Write the identities of events, and orders with what they owe, in one statement.

        `early` are the orders whose invoice was here first: their mail need not wait for it.
        """
        keys = [(row.slot, UUID(row.event_key), UUID(row.payload_hash)) for row in events]
        values = [_order_values(row, _AT_ONCE if row.order_id in early else self._grace) for row in orders]
        columns = _columns(values) or [()] * _ORDER_PARAMETERS
        await connection.execute(INTAKE["store_few"], *_columns(keys), *columns, self._lifetime)

    async def _copy_all(
        self,
        connection: PoolConnectionProxy,
        events: list[EventRow],
        orders: list[OrderRow],
        now: datetime,
        early: frozenset[str],
    ) -> None:
        """Do what `_store_few` does for many."""
        await _copy(connection, "inbox", _INBOX_COLUMNS, map(_inbox_row, events))
        if not orders:
            return
        await _copy(connection, "orders", _ORDER_COLUMNS, map(_order_row, orders))
        expires_at = fmt.time(now + self._lifetime)
        at_once, later = fmt.time(now) + expires_at, fmt.time(now + self._grace) + expires_at
        await _copy(
            connection,
            "outbox",
            _OUTBOX_COLUMNS,
            (_outbox_rows(row, at_once, at_once if row.order_id in early else later) for row in orders),
        )

    async def _store_invoices(self, connection: PoolConnectionProxy, invoices: list[InvoiceRow]) -> None:
        """Write invoices and decide which mail carries each."""
        invoices.sort(key=lambda row: (row.slot, row.email_id))
        values = _columns(_invoice_values(row) for row in invoices)
        await connection.execute(INTAKE["store_invoices"], *values)
        slots = [row.slot for row in invoices]
        mails = [UUID(row.email_id) for row in invoices]
        await connection.execute(INTAKE["bring_order_mails_forward"], slots, mails)
        await connection.execute(
            INTAKE["owe_invoice_mails"],
            slots,
            mails,
            [row.order_id for row in invoices],
            [row.invoice_id for row in invoices],
            self._lifetime,
            self._grace,
        )


async def _copy(
    connection: PoolConnectionProxy, table: str, columns: Sequence[str], rows: Iterable[bytes]
) -> None:
    await connection.copy_to_table(table, source=BytesIO(fmt.payload(rows)), columns=columns, format="binary")


async def _without_known(connection: PoolConnectionProxy, orders: list[OrderRow]) -> list[OrderRow]:
    found = await connection.fetch(
        INTAKE["known_orders"], [row.slot for row in orders], [row.order_id for row in orders]
    )
    known = {record["order_id"] for record in found}
    return [row for row in orders if row.order_id not in known]


async def _quarantine(connection: PoolConnectionProxy, batch: Sorting) -> None:
    rows = sorted(batch.quarantined.values(), key=lambda found: (found[0].slot, found[0].quarantine_id))
    values = (
        (
            row.slot, UUID(row.quarantine_id), row.reason, row.detail, row.queue, row.exchange,
            row.routing_key, row.content_type, row.message_id, row.headers, row.body, seen,
        )
        for row, seen in rows
    )  # fmt: skip
    await connection.execute(INTAKE["quarantine"], *_columns(values))


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Turn rows into the column arrays that `unnest` takes."""
    return list(zip(*rows, strict=True))


def _trace_values(traces: Iterable[OwedTrace]) -> Iterable[tuple[int, UUID, str]]:
    return ((slot, UUID(effect_id), context) for slot, effect_id, context in traces)


def _inbox_row(row: EventRow) -> bytes:
    return b"".join((_INBOX_HEAD, fmt.slot(row.slot), fmt.uuid(row.event_key), fmt.uuid(row.payload_hash)))


def _order_row(row: OrderRow) -> bytes:
    contact = (
        row.order_id, row.number, row.customer_id, row.customer_name, row.email, row.phone, row.locale,
        row.country, row.currency,
    )  # fmt: skip
    return b"".join(
        [
            _ORDER_HEAD,
            fmt.slot(row.slot),
            *fmt.short_texts(contact),
            fmt.money(row.total),
            fmt.jsonb(row.lines),
            fmt.time(row.processed_at),
            *fmt.short_texts((row.event_source, row.event_id)),
            fmt.time(row.event_time),
        ]
    )


def _outbox_rows(row: OrderRow, sms_times: bytes, email_times: bytes) -> bytes:
    """Return the order's two messages. The times are due_at and expires_at."""
    slot, order_id = fmt.slot(row.slot), fmt.text(row.order_id)
    return b"".join(
        (
            _OUTBOX_HEAD, slot, fmt.uuid(row.sms_id), order_id, _SMS_KIND, sms_times,
            _OUTBOX_HEAD, slot, fmt.uuid(row.email_id), order_id, _EMAIL_KIND, email_times,
        )
    )  # fmt: skip


def _order_values(row: OrderRow, email_delay: timedelta) -> tuple[Any, ...]:
    return (
        row.slot, row.order_id, row.number, row.customer_id, row.customer_name, row.email, row.phone,
        row.locale, row.country, row.currency, row.total, row.lines.decode(), row.processed_at,
        row.event_source, row.event_id, row.event_time, UUID(row.sms_id), UUID(row.email_id), email_delay,
    )  # fmt: skip


def _invoice_values(row: InvoiceRow) -> tuple[Any, ...]:
    return (
        row.slot, row.event_source, row.event_id, row.event_time, row.order_id, row.invoice_id, row.number,
        row.currency, row.total, row.issued_at, row.media_type, row.filename, row.document, row.document_url,
    )  # fmt: skip
