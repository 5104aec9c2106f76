"""Who may call a provider next, when as many calls are under way as it takes."""

import asyncio
from collections import deque
from collections.abc import Callable

from pipeline.errors import HeldBackError


class CallTurns:
    """First come, first served. `limit` says how many calls there may be, and may say something else later.

    Only a call takes a turn: what comes before it (who the recipient is, what the message says) does not keep
    others from calling. Bounded by the pool's workers, who are all that ever wait. Mutable state: `taken`,
    `_waiting`, `_is_closed`.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"CallTurns({self.taken} of {self._limit()} taken, {len(self._waiting)} wait)"

    @property
    def is_free(self) -> bool:
        """Whether a call could begin now."""
        return self.taken < self._limit() and not self._waiting

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return len(self._waiting)

    async def take(self) -> None:
        """Wait for a turn. Raises HeldBackError when there will be none any more."""
        if self.is_free:
            self.taken += 1
            return
        if self._is_closed:
            raise _draining()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(turn)
            else:  # it was given the turn in the same moment
                self.give_back()
            raise

    def give_back(self) -> None:
        """End a turn. The next one begins, and more than that if the limit has risen."""
        self.taken -= 1
        while self._waiting and self.taken < self._limit():
            turn = self._waiting.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)

    def close(self) -> None:
        """Have nobody wait any more, so that a drain takes no longer than the calls under way."""
        self._is_closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(_draining())


def _draining() -> HeldBackError:
    return HeldBackError("draining", "this process ends", 0.0)
