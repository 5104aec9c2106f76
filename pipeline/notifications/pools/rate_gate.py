"""The queue in front of a rate limit, and the rate limits of many recipients."""

import asyncio
from collections import OrderedDict

from pipeline.clock import Clock
from pipeline.errors import HeldBackError
from pipeline.notifications.pools.token_bucket import TokenBucket


class RateGate:
    """First come, first served, and nobody waits longer than `wait_max_s` seconds.

    Only the first of the queue watches the bucket, so that a crowd costs nothing and cannot overtake.
    Mutable state: the bucket, `_whole_per_s` and `_senders` (the rate, and how many processes share it),
    `_turn`, and `_queued` (how many wait).
    """

    def __init__(self, rate_per_s: float, *, wait_max_s: float, clock: Clock) -> None:
        self._whole_per_s = rate_per_s
        self._senders = 1
        self._bucket = TokenBucket(rate_per_s, clock.monotonic())
        self._wait_max_s = wait_max_s
        self._clock = clock
        self._turn = asyncio.Lock()
        self._queued = 0

    def __repr__(self) -> str:
        return f"RateGate({self.rate_per_s:g}/s, {self._queued} wait)"

    @property
    def rate_per_s(self) -> float:
        """The limit: this process's share."""
        return self._bucket.rate_per_s

    def retune(self, rate_per_s: float) -> None:
        """Have another rate from now on, above 0. Who waits already may wait as long as it reckoned."""
        self._whole_per_s = rate_per_s
        self._retune()

    def share_among(self, senders: int) -> None:
        """Use a part of the rate from now on, as one of so many processes."""
        self._senders = senders
        self._retune()

    def _retune(self) -> None:
        self._bucket.retune(self._whole_per_s / self._senders, self._clock.monotonic())

    def wait_s(self) -> float:
        """Return how long a message that came now would wait, in seconds."""
        return self._bucket.wait_s(self._clock.monotonic()) + self._queued / self._bucket.rate_per_s

    async def enter(self) -> None:
        """Take a token. Raises HeldBackError, at once, when that would take too long."""
        if not self._queued and self._bucket.take(self._clock.monotonic()):
            return
        wait_s = self.wait_s()
        if wait_s > self._wait_max_s:
            raise HeldBackError("rate_limited", "the rate limit is used up", wait_s)
        self._queued += 1
        try:
            async with self._turn:
                while not self._bucket.take(now := self._clock.monotonic()):
                    await self._clock.sleep(self._bucket.wait_s(now))
        finally:
            self._queued -= 1

    def put_back(self) -> None:
        """Return a token that was taken for nothing."""
        self._bucket.put_back()


class RecipientRates:
    """A rate limit for each of the recipients seen last.

    Who falls out of the table starts with a full bucket again: a burst of one message more. Mutable state:
    `_gates`, the recipient seen longest ago first.
    """

    def __init__(self, per_minute: float, *, recipients_max: int, wait_max_s: float, clock: Clock) -> None:
        self._rate_per_s = per_minute / 60
        self._recipients_max = recipients_max
        self._wait_max_s = wait_max_s
        self._clock = clock
        self._gates: OrderedDict[str, RateGate] = OrderedDict()

    def __repr__(self) -> str:
        return f"RecipientRates({self._rate_per_s * 60:g}/min, {len(self._gates)} recipients)"

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return self._rate_per_s > 0

    async def enter(self, recipient: str) -> RateGate:
        """Take a token of a recipient's; return where to put it back. Raises HeldBackError."""
        gate = self._gates.get(recipient)
        if gate is None:
            gate = RateGate(self._rate_per_s, wait_max_s=self._wait_max_s, clock=self._clock)
            self._gates[recipient] = gate
            if len(self._gates) > self._recipients_max:
                self._gates.popitem(last=False)
        self._gates.move_to_end(recipient)
        await gate.enter()
        return gate
