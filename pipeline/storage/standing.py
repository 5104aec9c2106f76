"""What stands of a recipient after a word: a person's wish, and beside it an operator's or a bounce's hold.

A person who says STOP while the mailbox is known to be gone has said STOP all the same: who takes the bounce
off must not have messages sent to that person. So of a recipient that gets nothing both reasons are kept, the
hold first, as `bounce:5.1.1+stop`.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

_JOIN: Final = "+"
_AHEAD_MAX: Final = timedelta(minutes=5)
_OPERATOR: Final = "operator"


class RecipientState(StrEnum):
    """Whether a recipient wants messages."""

    IN = "in"
    OUT = "out"


class Said(NamedTuple):
    """What was said of a recipient.

    `reason`: stop, start, provider:CODE, bounce:STATUS, unsubscribe or operator. `at`: when, for what was
    said at another time; None: now, by the clock of the server that records it.
    """

    state: RecipientState
    reason: str
    at: datetime | None = None


class Standing(NamedTuple):
    """What counts of a recipient. `reason`: for one that gets nothing the hold, the wish, or both."""

    state: RecipientState
    reason: str
    changed_at: datetime


def first_reason(reason: str) -> str:
    """Return the reason that counts before another one: the hold."""
    return reason.partition(_JOIN)[0]


def after(before: Standing | None, said: Said, now: datetime) -> Standing | None:
    """Return what stands after a word, None when the word changes nothing. `now`: by the server's clock.

    What was said last counts; of two things said at the same time the one that sends less. A word of another
    time that lies far ahead would keep all later ones out, so it counts as five minutes ahead. START ends
    STOP, and lifts no hold: a person who writes it does not mend a mailbox that is gone. An operator's
    permission takes the hold off, and where there is none the wish.
    """
    at = now if said.at is None else min(said.at, now + _AHEAD_MAX)
    if before is None:
        return Standing(said.state, said.reason, at)
    if said.at is not None and not _is_later(before, said.state, at):
        return None
    hold, wish = _parts(before)
    if said.state is RecipientState.IN:
        if hold and said.reason == _OPERATOR:
            hold = ""
        elif hold and not wish:
            return None
        else:
            wish = ""
    elif not _is_hold(said.reason):
        wish = said.reason
    elif hold and said.reason != _OPERATOR:
        return None
    else:
        hold = said.reason
    reasons = _JOIN.join(filter(None, (hold, wish)))
    state = RecipientState.OUT if reasons else RecipientState.IN
    # Clocks of servers differ, and shards fail over: what was said later is never the older one.
    return Standing(state, reasons or said.reason, max(at, before.changed_at))


def _is_later(before: Standing, state: RecipientState, at: datetime) -> bool:
    is_less = before.state is RecipientState.IN and state is RecipientState.OUT
    return at > before.changed_at or (at == before.changed_at and is_less)


def _parts(standing: Standing) -> tuple[str, str]:
    """Return the hold and the wish of what stands, empty for none."""
    if standing.state is RecipientState.IN:
        return "", ""
    first, _, second = standing.reason.partition(_JOIN)
    return (first, second) if _is_hold(first) else ("", first)


def _is_hold(reason: str) -> bool:
    return reason == _OPERATOR or reason.startswith("bounce:")
