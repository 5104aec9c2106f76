"""The effect ledger of one shard: claim what is due, record what became of it."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from pipeline.storage.fence import FencedTransaction, prove_ownership
from pipeline.storage.node import Node
from pipeline.storage.statements import OUTBOX

SWEEP_MAX = 1000  # rows one sweep takes at most, so that a large mess is cleared in steps


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
    """An invoice that a claimed mail carries; `content` or `url`, never both."""

    invoice_id: str
    number: str | None
    currency: str
    total: str
    media_type: str
    filename: str | None
    content: bytes | None
    url: str | None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A message this process alone may send, until its lease ends. `age_s`: since it was owed.

    `send_before`: on the monotonic clock, a margin before the lease ends; no call may begin later.
    `useful_until`: on the same clock, when the message expires.
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

    What was given back untried is in neither.
    """

    states: Counter[str]
    stale: int


class Outbox:
    """The ledger on one shard's primary. No connection is held between calls."""

    def __init__(self, shard: str, node: Node, *, lease_s: float, message_lifetime_s: float) -> None:
        self.shard = shard
        self._node = node
        self._lease = timedelta(seconds=lease_s)
        self._lifetime = timedelta(seconds=message_lifetime_s)

    async def claim(self, channel: Channel, limit: int, claim_id: UUID) -> list[Claim]:
        """Claim up to `limit` due messages. On return the claim is durable, and on the replica."""
        began = time.monotonic()
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            rows = await connection.fetch(OUTBOX["claim"], channel, limit, claim_id, self._lease)
            documents: dict[UUID, tuple[InvoiceDocument, ...]] = {}
            if rows and channel is Channel.EMAIL:
                documents = await self._attach(connection, rows)
            await transaction.commit()
        return [self._claim(row, channel, claim_id, documents, began) for row in rows]

    @staticmethod
    async def _attach(connection: Any, rows: Sequence[Any]) -> dict[UUID, tuple[InvoiceDocument, ...]]:
        await connection.execute(
            OUTBOX["attach_invoices"],
            *_keys(row for row in rows if row["kind"] == Kind.ORDER_EMAIL),
        )
        carried: dict[UUID, tuple[InvoiceDocument, ...]] = {}
        for row in await connection.fetch(OUTBOX["documents"], *_keys(rows)):
            carried[row["effect_id"]] = (*carried.get(row["effect_id"], ()), _document(row))
        return carried

    def _claim(
        self,
        row: Any,
        channel: Channel,
        claim_id: UUID,
        documents: dict[UUID, tuple[InvoiceDocument, ...]],
        began: float,
    ) -> Claim:
        return Claim(
            shard=self.shard,
            slot=row["slot"],
            effect_id=row["effect_id"],
            claim_id=claim_id,
            channel=channel,
            kind=Kind(row["kind"]),
            order_id=row["order_id"],
            invoice_id=row["invoice_id"],
            attempt=row["attempts"],
            is_expired=row["is_expired"],
            created_at=row["created_at"],
            event_time=row["event_time"],
            number=row["number"],
            customer_name=row["customer_name"],
            email=row["email"],
            phone=row["phone"],
            locale=row["locale"],
            country=row["country"],
            currency=row["currency"],
            total=str(row["total"]),
            lines=row["lines"],
            customer_id=row["customer_id"],
            age_s=row["age_s"],
            useful_until=began + row["left_s"],
            invoices=documents.get(row["effect_id"], ()),
        )

    async def record(self, channel: Channel, receipts: Sequence[Receipt]) -> Recorded:
        """Record a set of receipts in one transaction. Raises SlotsMovedError when some belong elsewhere."""
        ordered = sorted(receipts, key=lambda receipt: (receipt.slot, receipt.effect_id))
        untried = {receipt.effect_id for receipt in receipts if receipt.is_untried}
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            await prove_ownership(connection, self._node.name, (receipt.slot for receipt in receipts))
            rows = await connection.fetch(OUTBOX["record_receipts"], *zip(*ordered, strict=True))
            states = Counter(row["state"] for row in rows if row["effect_id"] not in untried)
            await connection.execute(
                OUTBOX["record_receipt_batch"], channel, *(states[state] for state in _COUNTED_STATES)
            )
            await transaction.commit()
        return Recorded(states, len(receipts) - len(rows))

    async def leave_out(self, claim: Claim, invoice_id: str) -> None:
        """Take an invoice out of the mail that a claim is for; it will travel alone.

        Raises SlotsMovedError when the order lives elsewhere by now.
        """
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            await prove_ownership(connection, self._node.name, [claim.slot])
            await connection.execute(
                OUTBOX["leave_out"], claim.slot, claim.order_id, invoice_id, claim.effect_id
            )
            await transaction.commit()

    async def release(self, claim_id: UUID) -> None:
        """Give back whatever a claim that failed may have taken. Only right while nothing was sent."""
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            await connection.execute(OUTBOX["release"], claim_id)
            await transaction.commit()

    async def expire_leases(self) -> int:
        """Turn claims whose holder is gone into unknown ones; return how many."""
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            rows = await connection.fetch(OUTBOX["expire_leases"], SWEEP_MAX)
            for channel in Channel:
                lost = sum(row["channel"] == channel for row in rows)
                if lost:
                    await connection.execute(OUTBOX["record_receipt_batch"], channel, 0, 0, 0, 0, lost, 0)
            await transaction.commit()
        return len(rows)

    async def owe_left_behind_invoices(self) -> int:
        """Give invoices that were committed beside their order a mail of their own; return how many."""
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            rows = await connection.fetch(OUTBOX["owe_left_behind_invoices"], SWEEP_MAX, self._lifetime)
            await transaction.commit()
        return len(rows)


# The columns of receipt_batch, in order; what is pending again after a try is to be retried.
_COUNTED_STATES = (
    State.ACCEPTED,
    State.SUPPRESSED,
    State.EXPIRED,
    State.FAILED,
    State.UNKNOWN,
    State.PENDING,
)


def _keys(rows: Any) -> tuple[list[int], list[UUID], list[str]]:
    rows = sorted(rows, key=lambda row: (row["slot"], row["order_id"]))
    return (
        [row["slot"] for row in rows],
        [row["effect_id"] for row in rows],
        [row["order_id"] for row in rows],
    )


def _document(row: Any) -> InvoiceDocument:
    return InvoiceDocument(
        invoice_id=row["invoice_id"],
        number=row["number"],
        currency=row["currency"],
        total=str(row["total"]),
        media_type=row["media_type"],
        filename=row["filename"],
        content=row["document"],
        url=row["document_url"],
    )
