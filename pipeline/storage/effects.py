"""Messages of one shard that fell out of the flow, and what providers say of messages later."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from pipeline.storage.fence import FencedTransaction
from pipeline.storage.low_water import LowWater
from pipeline.storage.node import Node
from pipeline.storage.outbox import Channel, Claim, State
from pipeline.storage.outbox_table import claim_of, counted
from pipeline.storage.statements import EFFECTS, FENCE

SWEEP_MAX: Final = 1000
"""Rows one sweep takes at most, so that a large mess is cleared in steps."""

WORDS: Final[dict[str, tuple[int, State]]] = {
    **dict.fromkeys(("accepted", "scheduled", "queued"), (1, State.ACCEPTED)),
    **dict.fromkeys(("sending", "delayed"), (2, State.ACCEPTED)),
    **dict.fromkeys(("sent", "relayed", "expanded"), (3, State.ACCEPTED)),
    "delivered": (4, State.DELIVERED),
    **dict.fromkeys(("undelivered", "failed", "canceled"), (4, State.UNDELIVERED)),
    "read": (5, State.DELIVERED),
}
"""A provider's word for where a message stands: its rank, which only goes up, and the state that it proves.

Twilio's message statuses (twilio.com/docs/messaging/api/message-resource), and the actions of delivery status
notifications (RFC 3464, 2.3.3).
"""
_RANKS = msgspec.json.encode({word: rank for word, (rank, _) in WORDS.items()}).decode()
_FIRST_KNOWN = (State.PENDING, State.SUBMITTING, State.UNKNOWN, State.ABANDONED)


class ProviderStatus(NamedTuple):
    """What a provider says of a message it has accepted. The order of fields is that of apply_statuses.

    `status`: its own word, in small letters. `at`: when it said so. `provider_id` None: it named none.
    """

    slot: int
    effect_id: UUID
    provider: str
    provider_id: str | None
    status: str
    error_code: str | None
    at: datetime


class TracedStatus(NamedTuple):
    """A status word of a message that is traced: what became of it, and the message's trace as text."""

    word: ProviderStatus
    outcome: str
    context: str


class Applied(NamedTuple):
    """What became of status words.

    `outcomes`: how many were applied, are old (said before, or overtaken), are about other_id than the one
    the message went out under, are a contradiction to a message that was refused, name no_such_message, or
    are words not_understood. `not_owned`: slots of which nothing was applied: they belong elsewhere.
    `traced`: those of traced messages.
    `delivered_s`: seconds from acceptance to delivery, of those that were delivered by these words.
    """

    outcomes: Counter[str]
    not_owned: frozenset[int]
    traced: tuple[TracedStatus, ...] = ()
    delivered_s: tuple[tuple[Channel, float], ...] = ()


class Unknown(NamedTuple):
    """A message of unknown outcome, tried at `since` or later, and already asked about `asked` times."""

    claim: Claim
    since: datetime
    asked: int


class Conclusion(NamedTuple):
    """What was found out about an unknown message. The order of fields is that of conclude's parameters.

    `state` unknown: nothing; ask again in `again_in_s`, None: never. `detail`: codes, for the note.
    `is_counted`: whether the try counts when the message is pending again.
    """

    slot: int
    effect_id: UUID
    claim_id: UUID
    state: State
    detail: str
    provider: str | None = None
    provider_id: str | None = None
    status: str | None = None
    reason: str | None = None
    again_in_s: float | None = None
    is_counted: bool = False


class UnknownTotal(NamedTuple):
    """How many messages of a channel are unknown, and how long ago the oldest was owed."""

    channel: Channel
    effects: int
    oldest_s: float


class Effects:
    """The ledger of one shard as reconciler and callbacks see it. No connection is held between calls.

    Mutable state: `_leases`, from where on the index of leases is looked at.
    """

    def __init__(self, shard: str, node: Node, *, message_lifetime_s: float) -> None:
        self.shard = shard
        self._node = node
        self._lifetime = timedelta(seconds=message_lifetime_s)
        self._leases = LowWater()

    # --- sweeps -----------------------------------------------------------------------------------------

    async def expire_leases(self) -> int:
        """Turn claims whose holder is gone into unknown ones; return how many."""
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            row = await connection.fetchrow(EFFECTS["expire_leases"], SWEEP_MAX, self._leases.next())
            lost = {channel: row[channel] for channel in Channel if row[channel]}
            sums = [counted(channel, Counter({State.UNKNOWN: rows})) for channel, rows in lost.items()]
            await transaction.commit("; ".join(sums))
        total: int = sum(lost.values())
        self._leases.looked(row["looked_at"] if total < SWEEP_MAX else None)
        return total

    def look_anew(self) -> None:
        """Have the next sweep look at every lease: slots that came here brought old ones along."""
        self._leases.look_anew()

    async def owe_left_behind_invoices(self) -> int:
        """Give invoices that were committed beside their order a mail of their own; return how many."""
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            rows = await connection.fetch(EFFECTS["owe_left_behind_invoices"], SWEEP_MAX, self._lifetime)
            await transaction.commit()
        return len(rows)

    # --- unknown outcomes -------------------------------------------------------------------------------

    async def take_unknown(
        self, channel: Channel, limit: int, *, ask_after_s: float, hold_s: float
    ) -> list[Unknown]:
        """Return unknown messages to ask about, claimed no later than `ask_after_s` ago.

        They are nobody else's for `hold_s`; then, should nothing be concluded, somebody else's turn.
        """
        times = timedelta(seconds=ask_after_s), timedelta(seconds=hold_s)
        began = time.monotonic()
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            rows = await connection.fetch(EFFECTS["take_unknown"], channel, limit, *times)
            await transaction.commit()
        return [
            Unknown(
                claim_of(row, self.shard, channel, began=began, send_before=0.0),
                row["claimed_at"],
                row["asked"],
            )
            for row in rows
        ]

    async def conclude(self, conclusions: Sequence[Conclusion]) -> Counter[str]:
        """Record what was found out; return how many messages came to each state.

        Of a slot that is elsewhere by now nothing is recorded: it is asked about anew there.
        """
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            gone = await _not_owned(connection, (one.slot for one in conclusions))
            here = sorted(one for one in conclusions if one.slot not in gone)
            if not here:
                return Counter()
            columns = [
                [getattr(one, name) for one in here]
                for name in (
                    *("slot", "effect_id", "claim_id", "state", "provider", "provider_id", "status"),
                    *("reason", "detail", "again_in_s", "is_counted"),
                )
            ]
            rows = await connection.fetch(EFFECTS["conclude"], *columns)
            await transaction.commit(_sums((row["channel"], row["state"]) for row in rows))
        return Counter(row["state"] for row in rows)

    async def unknown_totals(self) -> list[UnknownTotal]:
        """Return how many messages are unknown, by channel; channels without one are left out."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(EFFECTS["unknown_totals"])
        return [UnknownTotal(Channel(row["channel"]), row["effects"], row["oldest_s"]) for row in rows]

    # --- what providers say -----------------------------------------------------------------------------

    async def apply_statuses(self, statuses: Sequence[ProviderStatus]) -> Applied:
        """Apply status words, durably. They only go forward: replays, and words in any order, do no harm."""
        outcomes: Counter[str] = Counter()
        understood = [one for one in statuses if one.status in WORDS]
        outcomes["not_understood"] = len(statuses) - len(understood)
        delivered_s: list[tuple[Channel, float]] = []
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            gone = await _not_owned(connection, (one.slot for one in understood))
            accepted: list[tuple[str, str]] = []
            traced: list[TracedStatus] = []
            for turn in _turns(one for one in understood if one.slot not in gone):
                words = {one.effect_id: one for one in turn}
                ranked = [(*one, *WORDS[one.status]) for one in turn]
                for row in await connection.fetch(
                    EFFECTS["apply_statuses"], *zip(*ranked, strict=True), _RANKS
                ):
                    outcomes[row["outcome"]] += 1
                    if row["was"] in _FIRST_KNOWN:
                        accepted.append((row["channel"], State.ACCEPTED))
                    if row["trace_context"] is not None:
                        word = words[row["effect_id"]]
                        traced.append(TracedStatus(word, row["outcome"], row["trace_context"]))
                    if row["delivered_s"] is not None:
                        delivered_s.append((Channel(row["channel"]), row["delivered_s"]))
            await transaction.commit(_sums(accepted))
        return Applied(+outcomes, gone, tuple(traced), tuple(delivered_s))


async def _not_owned(connection: Any, slots: Iterable[int]) -> frozenset[int]:
    rows = await connection.fetch(FENCE["not_owned"], sorted(set(slots)))
    return frozenset(row["slot"] for row in rows)


def _turns(statuses: Iterable[ProviderStatus]) -> list[list[ProviderStatus]]:
    """Return sets that have one word of a message each, in the order in which transactions lock rows."""
    turns: list[dict[UUID, ProviderStatus]] = []
    for one in statuses:
        turn = next((turn for turn in turns if one.effect_id not in turn), None)
        if turn is None:
            turns.append(turn := {})
        turn[one.effect_id] = one
    return [sorted(turn.values(), key=lambda one: (one.slot, one.effect_id)) for turn in turns]


def _sums(reached: Iterable[tuple[str, str]]) -> str:
    """Return the statements that add to the sums. Delivered or not, a message was accepted.

    What stays unknown is in the sums already.
    """
    by_channel: dict[str, Counter[str]] = {}
    for channel, state in reached:
        if state != State.UNKNOWN:
            was_accepted = state in (State.DELIVERED, State.UNDELIVERED)
            by_channel.setdefault(channel, Counter())[State.ACCEPTED if was_accepted else state] += 1
    return "; ".join(counted(Channel(channel), states) for channel, states in by_channel.items())
