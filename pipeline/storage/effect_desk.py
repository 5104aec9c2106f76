"""What an operator sees of messages, and does about them: one shard's part of the effect ledger."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from pipeline.errors import EffectError, PostorderError
from pipeline.storage.fence import FencedTransaction, prove_ownership
from pipeline.storage.node import Node
from pipeline.storage.outbox import Channel, Kind, State
from pipeline.storage.outbox_news import CHANNEL
from pipeline.storage.outbox_table import counted
from pipeline.storage.statements import OUTBOX, load_statements

log = structlog.get_logger(__name__)

DESK: Final = load_statements("effect_desk.sql")
RESOLVABLE: Final = {
    State.UNKNOWN: (State.ACCEPTED, State.ABANDONED, State.PENDING),
    State.ABANDONED: (State.ACCEPTED,),
}
"""What a person may make of a message, by its state."""

INDEXED: Final = frozenset({State.PENDING, State.SUBMITTING, State.UNKNOWN})
"""The states that have a partial index of their own: messages in any other are found by reading the table."""
THROUGH_S: Final = 60.0
"""How long reading the table, or its key, through may take."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the ledger. No personal data: that is with its order."""

    shard: str
    slot: int
    effect_id: UUID
    order_id: str
    invoice_id: str | None
    channel: Channel
    kind: Kind
    state: State
    attempts: int
    reason: str | None
    provider: str | None
    provider_id: str | None
    provider_status: str | None
    created_at: datetime
    due_at: datetime
    claim_id: UUID | None
    claimed_at: datetime | None
    lease_until: datetime | None
    accepted_at: datetime | None
    settled_at: datetime | None
    provider_status_at: datetime | None
    expires_at: datetime
    trace_id: str | None = None


class Note(msgspec.Struct, frozen=True):
    """Something out of the ordinary that happened to a message."""

    effect_id: UUID
    at: datetime
    what: str
    provider: str | None
    detail: str
    actor: str


class StoredOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order as far as its messages' story needs it, with personal data."""

    order_id: str
    number: str | None
    customer_id: str | None
    customer_name: str | None
    email: str | None
    phone: str | None
    locale: str | None
    country: str | None
    event_source: str
    event_id: str
    event_time: datetime | None
    recorded_at: datetime


class StoredInvoice(msgspec.Struct, frozen=True):
    """An invoice, and which message carries it."""

    invoice_id: str
    effect_id: UUID | None
    travels_alone: bool
    event_time: datetime | None
    recorded_at: datetime


class Story(msgspec.Struct, frozen=True):
    """Everything known of an order's messages."""

    order: StoredOrder | None
    invoices: list[StoredInvoice]
    effects: list[Effect]
    notes: list[Note]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages to list. None: any."""

    state: State = State.UNKNOWN
    channel: Channel | None = None
    kind: Kind | None = None
    older_than_s: float = 0.0


class EffectDesk:
    """One shard's messages."""

    def __init__(self, shard: str, node: Node) -> None:
        self.shard = shard
        self._node = node

    async def listed(self, wanted: Wanted, limit: int) -> list[Effect]:
        """Return messages, those owed longest ago first."""
        statement = DESK["listed"].format(state=wanted.state.value)
        age = timedelta(seconds=wanted.older_than_s)
        async with self._node.connection() as connection:
            rows = await connection.fetch(
                statement, wanted.channel, wanted.kind, age, limit, timeout=THROUGH_S
            )
        return [self._effect(row) for row in rows]

    async def by_id(self, first: UUID, last: UUID) -> list[Effect]:
        """Return up to three messages whose ids are in a range."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(DESK["by_id"], first, last, timeout=THROUGH_S)
        return [self._effect(row) for row in rows]

    async def story(self, slot: int, order_id: str) -> Story:
        """Return what is known of an order's messages, as of one moment."""
        async with (
            self._node.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            order = await connection.fetchrow(DESK["order"], slot, order_id)
            invoices = await connection.fetch(DESK["invoices"], slot, order_id)
            effects = [self._effect(row) for row in await connection.fetch(DESK["of_order"], slot, order_id)]
            notes = await _notes(connection, slot, [effect.effect_id for effect in effects])
        return Story(
            StoredOrder(**order) if order else None, [StoredInvoice(*row) for row in invoices], effects, notes
        )

    async def resolve(
        self, seen: Effect, state: State, *, provider_id: str | None, because: str, actor: str
    ) -> None:
        """Say what became of a message. Raises EffectError, or SlotsMovedError while its slot moves."""
        if state not in RESOLVABLE.get(seen.state, ()):
            raise EffectError(_refusal(seen, state))
        detail = f"{seen.state} to {state}: {because}"
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            await prove_ownership(connection, self._node.name, [seen.slot])
            key = (seen.slot, seen.effect_id, seen.state, seen.claim_id)
            channel = await connection.fetchval(DESK["resolve"], *key, state, provider_id, detail, actor)
            if channel is None:
                raise EffectError(f"{seen.effect_id}: has changed since it was shown: look at it again")
            await transaction.commit(
                counted(seen.channel, Counter({State.ACCEPTED: 1})) if state is State.ACCEPTED else ""
            )
        if state is State.PENDING:
            await self._tell()

    async def _tell(self) -> None:
        """Wake the senders, who look by themselves in a while: it is no failure when that fails."""
        try:
            async with self._node.connection() as connection:
                await connection.execute(OUTBOX["tell"], CHANNEL, "operator")
        except PostorderError as error:
            log.info("outbox.untold", shard=self.shard, error=str(error))

    def _effect(self, row: Any) -> Effect:
        return msgspec.convert(dict(row) | {"shard": self.shard}, Effect)


async def _notes(connection: Any, slot: int, effect_ids: Sequence[UUID]) -> list[Note]:
    rows = await connection.fetch(DESK["notes"], slot, effect_ids)
    return [Note(*row) for row in rows]


def _refusal(seen: Effect, state: State) -> str:
    where = f"{seen.effect_id} is {seen.state}"
    if seen.state is State.SUBMITTING:
        return (
            f"{where}: it is being sent; if that never ends, it will be unknown at {seen.lease_until:%X %Z}"
        )
    allowed = RESOLVABLE.get(seen.state)
    if allowed is None:
        return f"{where}: only what is unknown or abandoned can be resolved"
    return f"{where}, and cannot be made {state}: choose from {', '.join(allowed)}"
