"""Whether a recipient wants a message, asked of its shard right before the message is sent.

Nothing is kept: a STOP counts from the moment in which it is durable. So each message is asked for. What
makes that cheap: lookups of one shard that come while it is being asked, or less than 5 ms after it was, wait
and go in one statement.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog

from pipeline.clock import Clock
from pipeline.errors import (
    HeldBackError,
    PostorderError,
    RecipientRefusedError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from pipeline.lifecycle import Tasks
from pipeline.sharding.router import Router
from pipeline.storage.recipients import Asked, Counted, RecipientKey, Word, Words
from pipeline.storage.standing import first_reason

log = structlog.get_logger(__name__)

_PATIENCE_S = 1.0  # for a slot that is nobody's while it moves
_MOVING_S = 0.02
_PACE_S = 0.005  # between two statements of a shard: 16 in one cost each a ninth of what one alone costs
_AWAY_S = 1.0
_TAKE_BACK_S = 0.05  # what was not sent is gathered for so long


class RecipientShard(Protocol):
    """A shard's recipients. Raises retryable errors."""

    async def ask(self, asked: Sequence[Asked], cap: int) -> Words:
        """Return what the shard says, and count."""

    async def take_back(self, counted: Sequence[Counted], cap: int) -> None:
        """Count no more what was not sent. `cap`: messages in a day."""


class Passed(NamedTuple):
    """A recipient that a message may go to. `day`: on which it was counted (UTC); None: it was not."""

    recipient: RecipientKey
    day: date | None


class _Question:
    """A recipient that is asked about, and who waits for the answer: one future for each message."""

    def __init__(self, recipient: RecipientKey, asked_at: float) -> None:
        self.recipient = recipient
        self.asked_at = asked_at
        self.waiting: list[asyncio.Future[Word]] = []

    def answer(self, word: Word) -> int:
        """Tell each who waits. The first ones get what room there is; return what nobody took."""
        room = word.granted
        for future in self.waiting:
            if not future.done():
                future.set_result(word._replace(granted=int(room > 0)))
                room -= room > 0
        return room

    def fail(self, error: PostorderError) -> None:
        """Tell all that nobody can say."""
        for future in self.waiting:
            if not future.done():
                future.set_exception(error)


class RecipientBook:
    """Asks about the recipients of one channel.

    `cap`: messages to one recipient in a day (UTC), 0: no cap. Mutable state: `_waiting` and `_busy` by
    shard (bounded by the pool: each message waits once), `_rested` (by shard, from when on it may be asked
    again), `_away` (shards that did not answer, and until when nobody tries), `_returned` (what to count no
    more), `asked`, `statements`.
    """

    def __init__(
        self,
        *,
        cap: int,
        router: Router,
        shard: Callable[[str], RecipientShard],
        refresh: Callable[[], Awaitable[None]],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._cap = cap
        self._router = router
        self._shard = shard
        self._refresh = refresh
        self._clock = clock
        self._tasks = tasks
        self._waiting: dict[str, dict[UUID, _Question]] = {}
        self._busy: set[str] = set()
        self._rested: dict[str, float] = {}
        self._away: dict[str, float] = {}
        self._returned: Counter[tuple[RecipientKey, date]] = Counter()
        self.asked = 0
        self.statements = 0

    def __repr__(self) -> str:
        return f"RecipientBook({self.asked} asked in {self.statements} statements)"

    async def admit(self, recipient: RecipientKey) -> Passed:
        """Return when a message may go to a recipient, and count it.

        Raises RecipientRefusedError (`opted_out`, `bounced`, `blocked`), or HeldBackError (`daily_cap`,
        `recipients_unavailable`).
        """
        self._check_away(recipient)
        answer = self._ask(recipient)
        try:
            word = await answer
        except PostorderError as error:
            raise HeldBackError("recipients_unavailable", str(error)) from error
        except asyncio.CancelledError:
            if not answer.cancelled() and answer.done() and answer.exception() is None:
                self._return(recipient, answer.result().day, answer.result().granted)
            raise
        if word.refused_for is not None:
            raise RecipientRefusedError(_code(word.refused_for), "the recipient gets nothing any more")
        if not word.granted:
            raise HeldBackError("daily_cap", "the recipient had enough today", self._day_left_s())
        return Passed(recipient, word.day)

    def _check_away(self, recipient: RecipientKey) -> None:
        """Raise HeldBackError while the recipient's shard is away. One message a second passes, and tries."""
        shard, now = self._router.shard_of(recipient.slot), self._clock.monotonic()
        rest_s = self._away.get(shard, now) - now
        if rest_s > 0:
            raise HeldBackError("recipients_unavailable", f"{shard}: did not answer just now", rest_s)
        if shard in self._away:
            self._away[shard] = now + _AWAY_S

    def take_back(self, passed: Passed) -> None:
        """Count a message no more that was admitted and not sent. Returns at once."""
        self._return(passed.recipient, passed.day, 1)

    def _return(self, recipient: RecipientKey, day: date | None, messages: int) -> None:
        if day is None or not messages:
            return
        if not self._returned:
            self._tasks.start(self._take_back(), "counts taken back")
        self._returned[recipient, day] += messages

    async def drain(self) -> None:
        """Count no more what was not sent: whoever asks has finished before."""
        await self._tasks.join()

    async def stop(self) -> None:
        """End: nobody may ask any more. What was to be counted no more stays counted."""
        await self._tasks.cancel()

    # --- asking ---------------------------------------------------------------------------------------

    def _ask(self, recipient: RecipientKey) -> "asyncio.Future[Word]":
        self.asked += 1
        future: asyncio.Future[Word] = asyncio.get_running_loop().create_future()
        self._put(_Question(recipient, self._clock.monotonic()), future)
        return future

    def _put(self, question: _Question, *waiting: "asyncio.Future[Word]") -> None:
        shard = self._router.shard_of(question.recipient.slot)
        questions = self._waiting.setdefault(shard, {})
        questions.setdefault(question.recipient.key, question).waiting.extend(waiting)
        if shard not in self._busy:
            self._busy.add(shard)
            self._tasks.start(self._serve(shard), f"recipients of {shard}")

    async def _serve(self, shard: str) -> None:
        """Ask for all who wait, again and again until nobody does."""
        try:
            while shard in self._waiting:
                await self._gather(shard)
                questions = self._waiting.pop(shard)
                try:
                    await self._answer(shard, questions)
                except (StorageUnavailableError, StorageTimeoutError) as error:
                    self._away[shard] = self._clock.monotonic() + _AWAY_S
                    _fail(questions, error)
                    # Those that came meanwhile would wait for its time-out as well.
                    _fail(self._waiting.pop(shard, {}), error)
                except PostorderError as error:
                    _fail(questions, error)
                else:
                    self._away.pop(shard, None)
        finally:
            self._busy.discard(shard)

    async def _gather(self, shard: str) -> None:
        """Wait for those who come with the first one, and a little longer where many have just come."""
        rest_s = self._rested.get(shard, 0.0) - self._clock.monotonic()
        if rest_s > 0:
            await self._clock.sleep(rest_s)
        else:
            await asyncio.sleep(0)
        self._rested[shard] = self._clock.monotonic() + _PACE_S

    async def _answer(self, shard: str, questions: dict[UUID, _Question]) -> None:
        asked = [Asked(question.recipient, len(question.waiting)) for question in questions.values()]
        words = await self._shard(shard).ask(asked, self._cap)
        self.statements += 1
        for key, word in words.words.items():
            left = questions[key].answer(word)
            self._return(questions[key].recipient, word.day, left)
        if words.not_owned:
            moved = [questions[key] for key in words.not_owned]
            self._tasks.start(self._follow(moved), "recipients of moved slots")

    async def _follow(self, questions: list[_Question]) -> None:
        """Ask the owners of slots that have moved; for one that is moving, again in a moment."""
        await self._refresh()
        await self._clock.sleep(_MOVING_S)
        for question in questions:
            if self._clock.monotonic() - question.asked_at > _PATIENCE_S:
                question.fail(StorageUnavailableError("no shard owns the recipient's slot at the moment"))
            else:
                waiting, question.waiting = question.waiting, []
                self._put(question, *waiting)

    # --- taking back ----------------------------------------------------------------------------------

    async def _take_back(self) -> None:
        """Count no more what was not sent. Tried twice; a count too many only sends less."""
        await self._clock.sleep(_TAKE_BACK_S)
        returned, self._returned = self._returned, Counter()
        left = [Counted(recipient, day, messages) for (recipient, day), messages in returned.items()]
        for _ in range(2):
            left = await self._take_back_from_shards(left)
            if not left:
                return
            await self._refresh()
        log.info("recipients.counts_kept", recipients=len(left))

    async def _take_back_from_shards(self, counted: list[Counted]) -> list[Counted]:
        """Return what could not be taken back."""
        by_shard: dict[str, list[Counted]] = {}
        for one in counted:
            by_shard.setdefault(self._router.shard_of(one.recipient.slot), []).append(one)
        left: list[Counted] = []
        for shard, some in by_shard.items():
            try:
                await self._shard(shard).take_back(some, self._cap)
            except PostorderError as error:
                log.debug("recipients.not_taken_back", shard=shard, error=str(error))
                left += some
        return left

    def _day_left_s(self) -> float:
        now = self._clock.now().astimezone(UTC)
        tomorrow = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
        return (tomorrow - now).total_seconds()


def _fail(questions: dict[UUID, _Question], error: PostorderError) -> None:
    for question in questions.values():
        question.fail(error)


def _code(reason: str) -> str:
    """Return the ledger's code for why a recipient gets nothing."""
    first = first_reason(reason)
    if first.startswith("bounce:"):
        return "bounced"
    return "blocked" if first == "operator" else "opted_out"
