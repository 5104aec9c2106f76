"""The effect ledger of one shard: claim what is due, record what became of it."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pipeline.storage.fence import FencedTransaction, prove_ownership
from pipeline.storage.low_water import LowWater
from pipeline.storage.node import Node
from pipeline.storage.outbox import Channel, Claim, InvoiceDocument, Kind, Receipt, Recorded, State
from pipeline.storage.statements import OUTBOX


class Outbox:
    """The ledger on one shard's primary. No connection is held between calls.

    Mutable state: `_marks`, by channel, from where on the index of what is due is looked at.
    """

    def __init__(self, shard: str, node: Node, *, lease_s: float) -> None:
        self.shard = shard
        self._node = node
        self._lease_s = lease_s
        self._marks = {channel: LowWater() for channel in Channel}

    async def claim(self, channel: Channel, limit: int, claim_id: UUID) -> list[Claim]:
        """Claim up to `limit` due messages. On return the claim is durable, and on the replica.

        A message whose transaction took seconds to commit may be left for a later claim: see LowWater.
        """
        began = time.monotonic()  # before the server reads its own clock
        mark = self._marks[channel]
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            rows = await connection.fetch(
                OUTBOX["claim"], channel, limit, claim_id, timedelta(seconds=self._lease_s), mark.next()
            )
            documents: dict[UUID, tuple[InvoiceDocument, ...]] = {}
            if rows and channel is Channel.EMAIL:
                documents = await self._attach(connection, rows)
            await transaction.commit()
        mark.looked(max((row["due_at"] for row in rows), default=None))
        return [
            claim_of(
                row,
                self.shard,
                channel,
                began=began,
                send_before=began + self._lease_s / 2,
                invoices=documents.get(row["effect_id"], ()),
            )
            for row in rows
        ]

    async def next_due(self, channel: Channel) -> float | None:
        """Return in how many seconds the next message will be due: at most 0 when one is; None: none is owed.

        Of what was due longer ago than two seconds nothing is said: claim first.
        """
        async with self._node.connection() as connection:
            due_in_s: float | None = await connection.fetchval(
                OUTBOX["next_due"], channel, self._marks[channel].mark
            )
        return due_in_s

    def look_anew(self) -> None:
        """Have the next claims look at all that is due: slots that came here brought old messages along."""
        for mark in self._marks.values():
            mark.look_anew()

    @staticmethod
    async def _attach(connection: Any, rows: Sequence[Any]) -> dict[UUID, tuple[InvoiceDocument, ...]]:
        # A mail that is not sent any more takes no invoice along: it gets a mail, and a lifetime, of its own.
        rows = [row for row in rows if not row["is_expired"]]
        await connection.execute(
            OUTBOX["attach_invoices"],
            *_keys(row for row in rows if row["kind"] == Kind.ORDER_EMAIL),
        )
        carried: dict[UUID, tuple[InvoiceDocument, ...]] = {}
        for row in await connection.fetch(OUTBOX["documents"], *_keys(rows)):
            carried[row["effect_id"]] = (*carried.get(row["effect_id"], ()), _document(row))
        return carried

    async def record(self, channel: Channel, receipts: Sequence[Receipt]) -> Recorded:
        """Record a set of receipts in one transaction. Raises SlotsMovedError when some belong elsewhere.

        What is out of the ordinary is noted: tries put off, unknown outcomes, acceptances that came too late.
        """
        ordered = sorted(receipts, key=lambda receipt: (receipt.slot, receipt.effect_id))
        untried = {receipt.effect_id for receipt in receipts if receipt.is_untried}
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            await prove_ownership(connection, self._node.name, (receipt.slot for receipt in receipts))
            rows = await connection.fetch(OUTBOX["record_receipts"], *zip(*ordered, strict=True))
            states = Counter(row["state"] for row in rows if row["effect_id"] not in untried)
            stale = 0
            if len(rows) < len(receipts):
                stale = await _late(connection, ordered, {row["effect_id"] for row in rows}, states)
            await _note(connection, ordered, {row["effect_id"]: row["attempts"] for row in rows})
            await transaction.commit(counted(channel, states))
        return Recorded(states, stale)

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


def claim_of(
    row: Any,
    shard: str,
    channel: Channel,
    *,
    began: float,
    send_before: float,
    invoices: tuple[InvoiceDocument, ...] = (),
) -> Claim:
    """Return the claim that a row of the statement `claim`, or of `take_unknown`, stands for.

    `began`: on the monotonic clock, just before the statement.
    """
    return Claim(
        shard=shard,
        slot=row["slot"],
        effect_id=row["effect_id"],
        claim_id=row["claim_id"],
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
        send_before=send_before,
        useful_until=began + row["left_s"],
        invoices=invoices,
    )


def counted(channel: Channel, states: Counter[str]) -> str:
    """Return the statement that adds to a channel's sums. What is pending after a try is to be retried."""
    return OUTBOX["record_receipt_batch"].format(
        channel=channel.value, **{state.value: states[state] for state in _COUNTED_STATES}
    )


_COUNTED_STATES = (
    State.ACCEPTED,
    State.SUPPRESSED,
    State.EXPIRED,
    State.FAILED,
    State.UNKNOWN,
    State.PENDING,
)


async def _late(
    connection: Any, ordered: Sequence[Receipt], recorded: set[UUID], states: Counter[str]
) -> int:
    """Deal with receipts that were not recorded; return how many are of a claim that is not held any more."""
    late = [receipt for receipt in ordered if receipt.effect_id not in recorded]
    rows = await connection.fetch(OUTBOX["late_receipts"], *zip(*late, strict=True))
    verdicts = Counter(row["verdict"] for row in rows)
    if verdicts["proven"]:
        states[State.ACCEPTED] += verdicts["proven"]
    return verdicts["stale"]


async def _note(connection: Any, ordered: Sequence[Receipt], attempts: dict[UUID, int]) -> None:
    """Note what was put off, and what is unknown: the first tries, then ever fewer; the untried, once."""
    notes = []
    for receipt in ordered:
        tries = attempts.get(receipt.effect_id)
        if tries is None or receipt.reason is None or receipt.state not in _NOTED:
            continue
        is_once = receipt.is_untried or (tries > _ALL_NOTED_MAX and tries & (tries - 1) != 0)
        notes.append(
            (
                receipt.slot,
                receipt.effect_id,
                _NOTED[receipt.state],
                receipt.provider,
                receipt.reason,
                is_once,
            )
        )
    if notes:
        await connection.execute(OUTBOX["note"], *zip(*notes, strict=True))


_NOTED = {State.PENDING: "retry", State.UNKNOWN: "unknown"}
_ALL_NOTED_MAX = 4  # tries; of more, those that are a power of two


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
