"""The cells of the effects matrix: how a sender ends, where, what the provider does; and the verdict."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Death = Literal["lives", "kill", "stop"]
Outcome = Literal["accepted", "refused", "dropped", "reply_lost"]

STEPS = (
    *("before_claim", "claimed", "composed", "before_call"),
    *("request_written", "reply_read", "before_commit", "after_commit"),
)
DEATHS: tuple[Death, ...] = ("lives", "kill", "stop")
NOWHERE = "nowhere"  # where a sender ends that lives
OUTCOMES: tuple[Outcome, ...] = ("accepted", "refused", "dropped", "reply_lost")
CHANNELS = ("sms", "email")
PER_CELL = 3
ORDERS = PER_CELL * len(OUTCOMES)
MESSAGES = ORDERS * len(CHANNELS)
# A provider was asked to hold its answer for so long, where the sender is to end while it waits for one.
HELD_MS = 500
# Settled, and never tried again: a message in one of these that no provider has is lost.
_NEVER_AGAIN = frozenset(
    {"accepted", "delivered", "undelivered", "suppressed", "expired", "failed", "abandoned"}
)


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the messages of one cell.

    `sent`: how many the provider took, each counted once. `duplicates`: how many more it took. `lost`: the
    provider has them not, and the ledger will not try again. `unknown`: listed for a person. `mismatched`:
    accepted in the ledger under an id that is not the provider's, or a mail sent again under another id.
    """

    death: Death
    step: str
    channel: str
    outcome: Outcome
    messages: int
    sent: int
    duplicates: int
    lost: int
    unknown: int
    mismatched: int
    states: dict[str, int]
    notes: dict[str, int]


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the ledger and at the provider, after everything has settled. `ids`: the provider's."""

    channel: str
    outcome: Outcome
    state: str
    provider_id: str | None
    ids: tuple[str, ...]
    notes: tuple[str, ...]


def cells(death: Death, step: str, effects: list[Effect]) -> list[Cell]:
    """Return the cells of one run."""
    return [
        _cell(
            death,
            step,
            channel,
            outcome,
            [e for e in effects if (e.channel, e.outcome) == (channel, outcome)],
        )
        for channel in CHANNELS
        for outcome in OUTCOMES
    ]


def _cell(death: Death, step: str, channel: str, outcome: Outcome, effects: list[Effect]) -> Cell:
    return Cell(
        death=death,
        step=step,
        channel=channel,
        outcome=outcome,
        messages=len(effects),
        sent=sum(bool(effect.ids) for effect in effects),
        duplicates=sum(max(0, len(effect.ids) - 1) for effect in effects),
        lost=sum(not effect.ids and effect.state in _NEVER_AGAIN for effect in effects),
        unknown=sum(effect.state == "unknown" for effect in effects),
        mismatched=sum(map(_is_mismatched, effects)),
        states=dict(Counter(effect.state for effect in effects)),
        notes=dict(Counter(note for effect in effects for note in effect.notes)),
    )


def _is_mismatched(effect: Effect) -> bool:
    if effect.channel == "email" and len(set(effect.ids)) > 1:
        return True
    return effect.state in {"accepted", "delivered"} and effect.provider_id not in effect.ids


def complaints(found: Iterable[Cell]) -> list[str]:
    """Return what is against the promise, one line each; empty when it is kept.

    Nothing lost, no message left half-way, every SMS once, and a mail again only where its outcome was
    unknown: after a lost reply, or when its sender ended with the request out and no receipt.
    """
    wrong = []
    for cell in found:
        where = f"{cell.death} {cell.step} {cell.channel} {cell.outcome}"
        if cell.messages != PER_CELL:
            wrong.append(f"{where}: {cell.messages} messages instead of {PER_CELL}")
        if cell.lost:
            wrong.append(f"{where}: {cell.lost} lost")
        if cell.mismatched:
            wrong.append(f"{where}: {cell.mismatched} under an id that is not the provider's")
        if left := set(cell.states) & {"pending", "submitting"}:
            wrong.append(f"{where}: left {sorted(left)}")
        if cell.duplicates and not (cell.channel == "email" and may_repeat(cell)):
            wrong.append(f"{where}: {cell.duplicates} sent twice")
        if cell.sent + cell.unknown < cell.messages:
            wrong.append(f"{where}: neither sent nor unknown")
    return wrong


def may_repeat(cell: Cell) -> bool:
    """Whether the sender, or who came after it, could not know that the provider has the message."""
    out = cell.step in {"request_written", "reply_read", "before_commit"}
    return cell.outcome == "reply_lost" or (cell.outcome == "accepted" and out)


def faults_of_sms(outcome: Outcome, to: str, *, held: bool) -> list[dict[str, Any]]:
    """Return what the emulator is to do with the first request for a number."""
    rule: dict[str, Any] = {"on": "create", "to": to, "count": 1, "latency_ms": HELD_MS if held else 0}
    match outcome:
        case "accepted":
            return [{**rule, "action": "hang", "latency_ms": 0, "hang_ms": HELD_MS}] if held else []
        case "refused":
            return [{**rule, "action": "status", "status": 429, "code": 20429}]
        case "dropped":
            return [{**rule, "action": "drop_before"}]
        case "reply_lost":
            return [{**rule, "action": "accept_then_drop"}]


def faults_of_mail(outcome: Outcome, to: str, *, held: bool, death: Death) -> list[dict[str, Any]]:
    """Return what the sink is to do with the first mail for an address."""
    rule: dict[str, Any] = {"on": "DATA_END", "to": to, "count": 1, "latency_ms": HELD_MS if held else 0}
    hang = {**rule, "action": "hang", "latency_ms": 0, "hang_ms": HELD_MS}
    match outcome:
        case "accepted":
            return [hang] if held else []
        case "refused":
            return [{**rule, "action": "reply", "code": 451}]
        case "dropped":
            return [{**rule, "action": "drop"}]
        case "reply_lost" if held and death == "kill":
            return [hang]  # the sink forgets what it waits with once the peer is gone; so it takes it first
        case "reply_lost":
            return [{**rule, "action": "accept_then_drop"}]
