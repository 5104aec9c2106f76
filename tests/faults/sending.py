"""`postorder run` that kills or stops itself at a point of the send path, once all its messages are there.

python tests/faults/sending.py POINT:COUNT:HOW[:MUTATION] [FILE] run ...

COUNT messages (claims, at `before_claim`) wait for each other at the point; then the process gets SIGKILL or
SIGSTOP from itself. Continued, it lets all of them go on, and makes FILE once each has come to a receipt. The
points wrap the real functions from outside, so the shipped code has no seams for tests. A mutation takes a
guard out, to see the proof fail.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from consumers.cli import main
from pipeline.notifications.composer import Composer
from pipeline.notifications.dispatcher import Dispatcher
from pipeline.notifications.providers.smtp import SmtpProvider
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.storage import effects
from pipeline.storage.fence import FencedTransaction
from pipeline.storage.outbox import Channel, Claim, Receipt, Recorded
from pipeline.storage.outbox_table import Outbox

_recording: ContextVar[int] = ContextVar("receipts of the transaction", default=0)


class Gathering:
    """Holds whoever arrives until all have; then runs `when_all`, and lets them go on."""

    def __init__(self, count: int, when_all: Callable[[], None]) -> None:
        self._missing = count
        self._when_all = when_all
        self._open = asyncio.Event()

    async def arrive(self, count: int = 1) -> None:
        self._missing -= count
        if self._missing == 0:
            self._when_all()
        if self._missing <= 0:
            self._open.set()
        await self._open.wait()


def before(owner: Any, name: str, gathering: Gathering) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    async def wrapped(*arguments: Any, **options: Any) -> Any:
        await gathering.arrive()
        return await original(*arguments, **options)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, gathering: Gathering, size: Callable[[Any, Any], int]) -> None:
    """Arrive when a call has ended, however it did; `size`: of its arguments and what it returned."""
    original: Callable[..., Any] = getattr(owner, name)

    async def wrapped(*arguments: Any, **options: Any) -> Any:
        found = None
        try:
            found = await original(*arguments, **options)
        finally:
            if count := size(arguments, found):
                await gathering.arrive(count)
        return found

    setattr(owner, name, wrapped)


def one(_arguments: Any, _found: Any) -> int:
    return 1


def before_claim(gathering: Gathering) -> None:
    before(Outbox, "claim", gathering)


def claimed(gathering: Gathering) -> None:
    after(Outbox, "claim", gathering, lambda _arguments, found: len(found or ()))


def composed(gathering: Gathering) -> None:
    for name in ("sms", "email"):
        after(Composer, name, gathering, one)


def before_call(gathering: Gathering) -> None:
    for provider in (TwilioProvider, SmtpProvider):
        before(provider, "send", gathering)


def reply_read(gathering: Gathering) -> None:
    for provider in (TwilioProvider, SmtpProvider):
        after(provider, "send", gathering, one)


def before_commit(gathering: Gathering) -> None:
    """In the transaction of the receipts, when only its commit is missing."""
    record, commit = Outbox.record, FencedTransaction.commit
    _recorded_together(gathering)

    async def recorded(self: Outbox, channel: Channel, receipts: list[Receipt]) -> Recorded:
        _recording.set(len(receipts))
        try:
            return await record(self, channel, receipts)
        finally:
            _recording.set(0)

    async def committed(self: FencedTransaction, *arguments: Any) -> None:
        if count := _recording.get():
            _recording.set(0)
            await gathering.arrive(count)
        await commit(self, *arguments)

    Outbox.record, FencedTransaction.commit = recorded, committed  # type: ignore[method-assign]


def _recorded_together(gathering: Gathering) -> None:
    """Have one set of receipts for each channel and shard: a second one would wait for the first for ever."""
    reply_read(Gathering(gathering._missing, lambda: None))


def after_commit(gathering: Gathering) -> None:
    _recorded_together(gathering)
    after(Outbox, "record", gathering, lambda arguments, _found: len(arguments[2]))


POINTS: dict[str, Callable[[Gathering], None]] = {
    "before_claim": before_claim,
    "claimed": claimed,
    "composed": composed,
    "before_call": before_call,
    "reply_read": reply_read,
    "before_commit": before_commit,
    "after_commit": after_commit,
}


# --- mutations: guards taken out ------------------------------------------------------------------


def without_send_before() -> None:
    """A process that slept through its lease sends all the same."""
    original = Outbox.claim

    async def claim(self: Outbox, *arguments: Any, **options: Any) -> list[Claim]:
        claims = await original(self, *arguments, **options)
        return [msgspec.structs.replace(one, send_before=inf) for one in claims]

    Outbox.claim = claim  # type: ignore[method-assign]


def blind() -> None:
    """An unknown outcome is tried again without asking."""
    statements = dict(effects.EFFECTS)
    statements["expire_leases"] = statements["expire_leases"].replace("'unknown'", "'pending'")
    effects.EFFECTS = statements


def send_before_record() -> None:
    """What is being sent is durable only with its receipt."""
    claim, record = Outbox.claim, Outbox.record

    async def undone(self: Outbox, *arguments: Any, **options: Any) -> list[Claim]:
        claims = await claim(self, *arguments, **options)
        await _set_state(self, claims, "pending", later_s=3)
        return claims

    async def redone(self: Outbox, channel: Channel, receipts: list[Receipt]) -> Recorded:
        await _set_state(self, receipts, "submitting", later_s=0)
        return await record(self, channel, receipts)

    Outbox.claim, Outbox.record = undone, redone  # type: ignore[method-assign]


async def _set_state(ledger: Outbox, messages: Any, state: str, *, later_s: int) -> None:
    async with ledger._node.connection() as connection, FencedTransaction(connection) as transaction:
        await connection.execute(
            "UPDATE outbox SET state = $1, due_at = now() + $3 * interval '1 s' WHERE effect_id = ANY($2)",
            state,
            [message.effect_id for message in messages],
            later_s,
        )
        await transaction.commit()


MUTATIONS: dict[str, Callable[[], None]] = {
    "without_send_before": without_send_before,
    "blind": blind,
    "send_before_record": send_before_record,
}


def tell_when_receipts(count: int, file: Path) -> None:
    """Make a file once so many messages have come to a receipt."""
    gathered = Gathering(count, file.touch)
    original = Dispatcher.dispatch

    async def dispatch(self: Dispatcher, claim: Claim) -> Receipt:
        receipt = await original(self, claim)
        gathered._missing -= 1
        if gathered._missing == 0:
            gathered._when_all()
        return receipt

    Dispatcher.dispatch = dispatch  # type: ignore[method-assign]


if __name__ == "__main__":
    point, count, how, *mutations = sys.argv[1].split(":")
    for mutation in mutations:
        MUTATIONS[mutation]()
    if point in POINTS:
        number = signal.Signals[how]
        POINTS[point](Gathering(int(count), lambda: os.kill(os.getpid(), number)))
    if sys.argv[2] != "run":
        tell_when_receipts(int(count), Path(sys.argv.pop(2)))
    sys.argv = ["postorder", *sys.argv[2:]]
    main()
