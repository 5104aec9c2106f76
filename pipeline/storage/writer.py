"""The intake transaction: a batch of events becomes rows on one shard, all or nothing."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from asyncpg.pool import PoolConnectionProxy

from pipeline.events import Reason
from pipeline.storage.node import Node
from pipeline.storage.rows import AnyRow, BatchCounts, Entry, InvoiceRow, OrderRow, QuarantineRow
from pipeline.storage.statements import INTAKE

T = TypeVar("T", OrderRow, InvoiceRow)

_CONFLICT_DETAIL = "an event with this source and id, but other data, was stored before"


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Turn rows into the column arrays that `unnest` takes."""
    return list(zip(*rows, strict=True))


class _Sorting:
    """The events of a batch, sorted into what to write. First of an identity wins, also within a batch."""

    def __init__(self, entries: Sequence[Entry[AnyRow]]) -> None:
        self.orders: dict[str, Entry[OrderRow]] = {}
        self.invoices: dict[str, Entry[InvoiceRow]] = {}
        self.quarantined: dict[str, tuple[QuarantineRow, int]] = {}
        self.duplicates = 0
        for row, as_quarantined in entries:
            match row:
                case QuarantineRow():
                    self.quarantine(row)
                case OrderRow():
                    self._take(self.orders, Entry(row, as_quarantined))
                case InvoiceRow():
                    self._take(self.invoices, Entry(row, as_quarantined))

    def _take(self, first: dict[str, Entry[T]], entry: Entry[T]) -> None:
        known = first.setdefault(entry.row.event_key, entry)
        if known is not entry:
            self.settle_known(entry, known.row.payload_hash)

    def settle_known(self, entry: Entry[OrderRow | InvoiceRow], payload_hash: str | None) -> None:
        """Count an event whose identity was stored before as duplicate or, with other data, as conflict."""
        if payload_hash is None or entry.row.payload_hash == payload_hash:
            self.duplicates += 1
        else:
            self.quarantine(entry.as_quarantined(Reason.IDENTITY_CONFLICT, _CONFLICT_DETAIL))

    def quarantine(self, row: QuarantineRow) -> None:
        """Add a delivery to the quarantined; the same one again only counts."""
        _, seen = self.quarantined.get(row.quarantine_id, (row, 0))
        self.quarantined[row.quarantine_id] = (row, seen + 1)

    def counts(self) -> BatchCounts:
        """Return the sums. Call after the events already known were settled."""
        quarantined = sum(seen for _, seen in self.quarantined.values())
        return BatchCounts(len(self.orders), len(self.invoices), self.duplicates, quarantined)


class IntakeWriter:
    """Writes batches to one shard's primary. Safe to call from several tasks."""

    def __init__(self, node: Node, *, grace_window_s: float, message_lifetime_s: float) -> None:
        self._node = node
        self._grace = timedelta(seconds=grace_window_s)
        self._lifetime = timedelta(seconds=message_lifetime_s)

    async def write(self, entries: Sequence[Entry[AnyRow]], trigger: str) -> BatchCounts:
        """Write a batch in one transaction and return what became of its events.

        After a normal return every event is durable on the primary and, where the shard is synchronous,
        on its replica. Raises StorageUnavailableError, StorageTimeoutError (outcome unknown: write the
        batch again), StorageConflictError (write it again), StorageRejectedError (a row of it is bad).
        """
        batch = _Sorting(entries)
        async with self._node.connection() as connection, connection.transaction():
            known: list[Entry[Any]] = [
                *await self._store_orders(connection, batch.orders),
                *await self._store_invoices(connection, batch.invoices),
            ]
            if known:
                await self._settle_known(connection, batch, known)
            await self._quarantine(connection, batch)
            counts = batch.counts()
            await connection.execute(INTAKE["record_intake_batch"], trigger, counts.events, *counts)
        return counts

    async def probe(self) -> None:
        """Commit something that leaves no row; return when it is durable as `write` promises."""
        async with self._node.connection() as connection:
            await connection.execute(INTAKE["probe"])

    async def _store_orders(
        self, connection: PoolConnectionProxy, orders: dict[str, Entry[OrderRow]]
    ) -> list[Entry[OrderRow]]:
        """Write the new orders and what they owe; take the known ones out of `orders` and return them."""
        if not orders:
            return []
        # Every transaction locks in the same order, so two batches cannot wait for each other in a ring.
        rows = sorted((entry.row for entry in orders.values()), key=_key_order)
        fresh = await connection.fetch(INTAKE["store_orders"], *_columns(rows), self._grace, self._lifetime)
        return _take_known(orders, fresh)

    async def _store_invoices(
        self, connection: PoolConnectionProxy, invoices: dict[str, Entry[InvoiceRow]]
    ) -> list[Entry[InvoiceRow]]:
        """Write the new invoices and decide which mail carries each; return the known ones."""
        if not invoices:
            return []
        rows = sorted((entry.row for entry in invoices.values()), key=_key_order)
        fresh = await connection.fetch(INTAKE["store_invoices"], *_columns(row[:-1] for row in rows))
        known = _take_known(invoices, fresh)
        if invoices:
            await self._owe_invoices(connection, [entry.row for entry in invoices.values()])
        return known

    async def _owe_invoices(self, connection: PoolConnectionProxy, rows: list[InvoiceRow]) -> None:
        rows = sorted(rows, key=lambda row: (row.slot, row.email_id))
        slots = [row.slot for row in rows]
        mails = [row.email_id for row in rows]
        await connection.execute(INTAKE["bring_order_mails_forward"], slots, mails)
        await connection.execute(
            INTAKE["owe_invoice_mails"],
            slots,
            mails,
            [row.order_id for row in rows],
            [row.invoice_id for row in rows],
            self._lifetime,
        )

    @staticmethod
    async def _settle_known(
        connection: PoolConnectionProxy, batch: _Sorting, known: list[Entry[Any]]
    ) -> None:
        found = await connection.fetch(
            INTAKE["hashes_of_known_events"],
            [entry.row.slot for entry in known],
            [entry.row.event_key for entry in known],
        )
        hashes = {record["event_key"].hex: record["payload_hash"].hex for record in found}
        for entry in known:
            batch.settle_known(entry, hashes.get(entry.row.event_key))

    @staticmethod
    async def _quarantine(connection: PoolConnectionProxy, batch: _Sorting) -> None:
        if batch.quarantined:
            rows = sorted((*row, seen) for row, seen in batch.quarantined.values())
            await connection.execute(INTAKE["quarantine"], *_columns(rows))


def _key_order(row: OrderRow | InvoiceRow) -> tuple[int, str]:
    return row.slot, row.event_key


def _take_known(entries: dict[str, Entry[T]], fresh: Iterable[Any]) -> list[Entry[T]]:
    """Remove the entries that the inbox already had from `entries` and return them."""
    new = {record["event_key"].hex for record in fresh}
    return [entries.pop(key) for key in list(entries) if key not in new]
