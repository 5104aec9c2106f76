"""Recipients of one shard: numbers and addresses that get nothing any more, and how much each was sent today.

A recipient is known by a key, never by the number or the address itself. The key says in which slot it lives.
"""

from collections.abc import Sequence
from datetime import date, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from asyncpg.pgproto import pgproto

from pipeline.sharding.slots import slot_of
from pipeline.storage.fence import LOCK_KEY, FencedTransaction, prove_ownership
from pipeline.storage.node import Node
from pipeline.storage.outbox import Channel
from pipeline.storage.standing import RecipientState, Said, Standing, after
from pipeline.storage.statements import load_statements

STATEMENTS: Final = load_statements("recipients.sql")
_KEY_BYTES = 16


class RecipientKey(NamedTuple):
    """A number or an address, hashed. The order of fields is that in which transactions lock."""

    slot: int
    key: UUID


class Asked(NamedTuple):
    """What is asked of a recipient: whether it wants messages, and room for so many more today."""

    recipient: RecipientKey
    messages: int


class Word(NamedTuple):
    """What a shard says of a recipient.

    `refused_for`: why it wants nothing; None: it does not say so. `granted`: how many of the messages asked
    for fit the cap; they are counted. `day`: on which (UTC); None: nothing was counted.
    """

    refused_for: str | None
    granted: int
    day: date | None


class Words(NamedTuple):
    """An answer: a word for each key, and the keys in slots that are not the shard's, or not just now."""

    words: dict[UUID, Word]
    not_owned: frozenset[UUID]


class Counted(NamedTuple):
    """Messages that were counted on a day. Sorted, transactions lock in the same order."""

    recipient: RecipientKey
    day: date
    messages: int


class SentMail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail of the ledger. `email`: the order's address; without one it went to the customer's.

    `status_at`: when the last word was said of it; None: nobody said any.
    """

    slot: int
    provider: str | None
    provider_id: str | None
    email: str | None
    customer_id: str | None
    status_at: datetime | None = None


class RecipientRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a recipient. `state` and the rest are None when nobody ever said anything."""

    state: RecipientState | None
    reason: str | None
    changed_at: datetime | None
    messages_today: int


def recipient_key(channel: Channel, address: str) -> RecipientKey:
    """Return the key of a number in E.164 or of an address. Case makes no difference. About 4 µs."""
    digest = sha256(f"{channel.value}:{address.lower()}".encode()).digest()
    # The driver's own kind of UUID is made and sent in a fifth of the time.
    return located(pgproto.UUID(digest[:_KEY_BYTES]))


def report_key(report: str) -> UUID:
    """Return the key under which it is remembered that a report was acted on, by its name."""
    return UUID(bytes=sha256(f"report:{report}".encode()).digest()[:_KEY_BYTES])


def located(key: UUID) -> RecipientKey:
    """Return a key with the slot that it lives in."""
    return RecipientKey(slot_of(key.hex), key)


class RecipientTable:
    """The recipients on one shard's primary."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ask(self, asked: Sequence[Asked], cap: int) -> Words:
        """Return what the shard says of recipients, each asked of but once. One round trip.

        `cap`: how many messages each may be sent in a day; 0: nothing is counted, all are granted. Raises
        StorageUnavailableError, StorageTimeoutError, StorageConflictError.
        """
        keys = [recipient.key for recipient, _ in asked]
        slots = [recipient.slot for recipient, _ in asked]
        wanted = [messages for _, messages in asked]
        async with self._node.connection() as connection:
            if cap:
                rows = await connection.fetch(STATEMENTS["count"], LOCK_KEY, slots, keys, wanted, cap)
            else:
                rows = await connection.fetch(STATEMENTS["look"], slots, keys)
        if cap:
            words = {row[0]: Word(row[2], row[3], row[4]) for row in rows if row[1]}
        else:
            granted = dict(zip(keys, wanted, strict=True))
            words = {row[0]: Word(row[2], granted[row[0]], None) for row in rows if row[1]}
        return Words(words, frozenset(row[0] for row in rows if not row[1]))

    async def take_back(self, counted: Sequence[Counted], cap: int) -> None:
        """Count messages no more that were not sent. `cap`: of a day; a count above it is of none sent.

        Raises SlotsMovedError when some belong elsewhere, and as `ask` does.
        """
        rows = sorted(counted)
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            await prove_ownership(connection, self._node.name, (row.recipient.slot for row in rows))
            await connection.execute(
                STATEMENTS["take_back"],
                [row.recipient.slot for row in rows],
                [row.recipient.key for row in rows],
                [row.day for row in rows],
                [row.messages for row in rows],
                cap,
            )
            await transaction.commit("SET LOCAL synchronous_commit = off")  # a lost count does no harm

    async def set(
        self, recipient: RecipientKey, channel: Channel, said: Said, report: str | None = None
    ) -> bool:
        """Record what was said of a recipient; return whether it counts. On return it is on the replica.

        `report`: what names the request or mail that said it; said by it once more within two days it changes
        nothing, whatever was said in between. Raises SlotsMovedError when the recipient lives elsewhere, and
        as `ask` does.
        """
        slot, key = recipient
        name = None if report is None else report_key(report)
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            await prove_ownership(connection, self._node.name, [slot])
            await connection.execute(STATEMENTS["lock"], slot, key)
            row: Any = await connection.fetchrow(STATEMENTS["standing"], slot, key, name)
            stands = None if row["is_repeated"] else after(_standing(row), said, row["now"])
            if name is not None and not row["is_repeated"]:
                await connection.execute(STATEMENTS["remember"], slot, name)
            if stands is not None:
                await connection.execute(STATEMENTS["set"], slot, key, channel.value, *stands)
            await transaction.commit()
        return stands is not None

    async def show(self, recipient: RecipientKey) -> RecipientRow:
        """Return what is known of a recipient. Raises SlotsMovedError, and as `ask` does."""
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            await prove_ownership(connection, self._node.name, [recipient.slot])
            row: Any = await connection.fetchrow(STATEMENTS["show"], recipient.slot, recipient.key)
            await transaction.commit()
        standing = _standing(row)
        state, reason, changed_at = standing or (None, None, None)
        return RecipientRow(
            state=state, reason=reason, changed_at=changed_at, messages_today=row["messages_today"]
        )

    async def mail(self, slots: Sequence[int], effect_id: UUID) -> SentMail | None:
        """Return a mail that lies in one of some slots here, or None. Raises as `ask` does."""
        async with self._node.connection() as connection:
            row = await connection.fetchrow(STATEMENTS["mail_recipient"], slots, effect_id)
        return None if row is None else SentMail(**row)


def _standing(row: Any) -> Standing | None:
    """Return what stands of a recipient; None: nobody ever said anything."""
    if row["state"] is None:
        return None
    return Standing(RecipientState(row["state"]), row["reason"], row["changed_at"])
