"""The effect ledger of one shard: claim what is due, record what became of it."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
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

    `on_claimed` are called with the claims of each set, as soon as it is theirs; they raise nothing. Mutable
    state: those, and `_marks`, by channel, from where on the index of what is due is looked at.
    """

    def __init__(self, shard: str, node: Node, *, lease_s: float) -> None:
        self.shard = shard
        self._node = node
        self._lease_s = lease_s
        self._marks = {channel: LowWater() for channel in Channel}
        self.on_claimed: list[Callable[[Sequence[Claim]], None]] = []

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
            carried = await _carried(connection, rows) if rows and channel is Channel.EMAIL else {}
            await transaction.commit()
        mark.looked(max((row["due_at"] for row in rows), default=None))
        send_before = began + self._lease_s / 2
        claims = [
            claim_of(
                row,
                self.shard,
                channel,
                began=began,
                send_before=send_before,
                invoices=carried.get(row["effect_id"], ()),
                more=row[_MORE],
            )
            for row in rows
        ]
        for tell in self.on_claimed:
            tell(claims)
        return claims

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

    async def record(self, channel: Channel, receipts: Sequence[Receipt]) -> Recorded:
        """Record a set of receipts in one transaction. Raises SlotsMovedError when some belong elsewhere.

        What is out of the ordinary is noted: tries put off, unknown outcomes, acceptances that came too late.
        """
        ordered = sorted(receipts, key=lambda receipt: receipt[:2])  # in the order in which rows are locked
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            rows = await connection.fetch(OUTBOX["record_receipts"], *zip(*ordered, strict=True))
            recorded = [(ordered[place - 1], attempts) for place, attempts in rows]
            states: Counter[str] = Counter(one.state for one, _ in recorded if not one.is_untried)
            stale = 0
            if len(rows) < len(ordered):
                await prove_ownership(connection, self._node.name, (receipt.slot for receipt in ordered))
                places = {row["place"] for row in rows}
                late = [receipt for place, receipt in enumerate(ordered, 1) if place not in places]
                stale = await _late(connection, late, states)
            await _note(connection, recorded)
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
    more: Sequence[Any] = (None, None, False),
) -> Claim:
    """Return the claim that a row of the statement `claim`, or of `take_unknown`, stands for.

    `began`: on the monotonic clock, just before the statement. Columns go by place: by name they took twice
    as long as all else here. `more`: those that the statement `claim` alone has.
    """
    slot, effect_id, claim_id, kind, order_id, invoice_id, attempts, created_at = row[:8]
    event_time, number, customer_name, email, phone, locale, country, currency = row[8:16]
    total, lines, customer_id, age_s, left_s = row[16:21]
    due_at, trace_context, was_held = more
    return Claim(
        shard=shard,
        slot=slot,
        effect_id=effect_id,
        claim_id=claim_id,
        channel=channel,
        kind=_KINDS[kind],
        order_id=order_id,
        invoice_id=invoice_id,
        attempt=attempts,
        is_expired=left_s <= 0,
        created_at=created_at,
        event_time=event_time,
        number=number,
        customer_name=customer_name,
        email=email,
        phone=phone,
        locale=locale,
        country=country,
        currency=currency,
        total=total,
        lines=lines,
        customer_id=customer_id,
        age_s=age_s,
        send_before=send_before,
        useful_until=began + left_s,
        invoices=invoices,
        trace_context=trace_context,
        due_at=due_at,
        was_held=was_held,
    )


_MORE = slice(21, 24)  # the places of the last columns of the statement `claim`
_KINDS = {kind.value: kind for kind in Kind}


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


async def _carried(connection: Any, rows: Sequence[Any]) -> dict[UUID, tuple[InvoiceDocument, ...]]:
    """Return the invoices that claimed mails carry, by mail."""
    # A mail that is not sent any more takes no invoice along: it gets a mail, and a lifetime, of its own.
    sent = sorted((row for row in rows if row["left_s"] > 0), key=lambda row: (row["slot"], row["order_id"]))
    found = await connection.fetch(
        OUTBOX["carry_invoices"],
        [row["slot"] for row in sent],
        [row["effect_id"] for row in sent],
        [row["order_id"] for row in sent],
        [row["kind"] == Kind.ORDER_EMAIL for row in sent],
    )
    carried: dict[UUID, tuple[InvoiceDocument, ...]] = {}
    for effect_id, *invoice in found:
        document = InvoiceDocument(**dict(zip(_DOCUMENT, invoice, strict=True)))
        carried[effect_id] = (*carried.get(effect_id, ()), document)
    return carried


_DOCUMENT = InvoiceDocument.__struct_fields__  # in the order of carry_invoices' columns


async def _late(connection: Any, late: Sequence[Receipt], states: Counter[str]) -> int:
    """Deal with receipts that were not recorded; return how many are of a claim that is not held any more."""
    rows = await connection.fetch(OUTBOX["late_receipts"], *zip(*late, strict=True))
    verdicts = Counter(row["verdict"] for row in rows)
    if verdicts["proven"]:
        states[State.ACCEPTED] += verdicts["proven"]
    return verdicts["stale"]


async def _note(connection: Any, recorded: Sequence[tuple[Receipt, int]]) -> None:
    """Note what was put off, and what is unknown: the first tries, then ever fewer; the untried, once."""
    notes = []
    for receipt, tries in recorded:
        if receipt.reason is None or receipt.state not in _NOTED:
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
