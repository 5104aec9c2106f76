"""One provider behind everything that holds messages back from it."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import (
    AccountRefusedError,
    HeldBackError,
    LeaseEndedError,
    OutcomeUnknownError,
    ProviderError,
    ThrottledError,
)
from pipeline.notifications.pools.adaptive_limit import AdaptiveLimit
from pipeline.notifications.pools.breaker import Breaker
from pipeline.notifications.pools.call_turns import CallTurns
from pipeline.notifications.pools.rate_gate import RateGate
from pipeline.notifications.provider import Accepted
from pipeline.observability.pool_metrics import PoolMetrics

_AHEAD_S = 0.25  # so much of a rate limit waits for its turn, so that none of it is lost
_REFUSALS_MIN = 3  # fewer may be about their messages: a relay puts off single recipients
_BESIDE_S = 0.05  # what a message takes before its call at most, when all is well
BESIDE_MAX: Final = 3
"""So many times as many messages as calls may be worked on beside them."""
_HOLD = Backoff(base_s=0.2, ceiling_s=5.0)


class Sender(Protocol):
    """What a slot asks of a provider: SmsProvider and EmailProvider are such, each for its messages."""

    name: str

    async def send(self, message: Any) -> Accepted:
        """Send one message. Raises a ProviderError."""


class ProviderSlot:
    """A provider, how many calls it takes, how fast, and whether it is to be left alone.

    `gates`: its own rate limit and its sender's, which other slots may share. `weight` 0: a fallback. Mutable
    state: `in_flight`, `_gates` (one more while an operator has set a rate), `_senders` (how many processes
    share the rates), `_held_until` (what the provider last asked for), `_refusals` (in a row, of those that
    ask for no time) and `_refused_at` (the last), those of limit, breaker and gates.
    """

    def __init__(
        self,
        provider: Sender,
        *,
        weight: int,
        limit: AdaptiveLimit,
        breaker: Breaker,
        gates: tuple[RateGate, ...],
        wait_max_s: float,
        metrics: PoolMetrics,
        clock: Clock,
    ) -> None:
        self.name = provider.name
        self.weight = weight
        self.limit = limit
        self.breaker = breaker
        self.in_flight = 0
        self.turns = CallTurns(lambda: limit.limit)
        self._provider = provider
        self._gates = self._of_settings = gates
        self._operators: RateGate | None = None
        self._senders = 1
        self._wait_max_s = wait_max_s
        self._latency = metrics.provider_seconds.under(provider.name)
        self._answers = metrics.provider_answers
        self._clock = clock
        self._held_until = clock.monotonic()
        self._refusals = 0
        self._refused_at = float("-inf")

    def __repr__(self) -> str:
        return f"ProviderSlot({self.name}: {self.in_flight} in flight, {self.limit!r}, {self.breaker!r})"

    def limit_to(self, *, concurrency: int, rate_per_s: float) -> None:
        """Have so many calls at once at most, and messages in a second; 0: no rate but the settings'.

        A rate comes on top of the settings', so that it can only be a lower one.
        """
        self.limit.cap(concurrency)
        if not rate_per_s:
            self._operators = None
        elif self._operators is None:
            self._operators = RateGate(rate_per_s, wait_max_s=self._wait_max_s, clock=self._clock)
            self._operators.share_among(self._senders)
        else:
            self._operators.retune(rate_per_s)
        self._gates = self._of_settings if self._operators is None else (*self._of_settings, self._operators)

    def share_among(self, senders: int) -> None:
        """Use a part of each rate from now on, as one of so many processes that send."""
        self._senders = senders
        for gate in self._gates:
            gate.share_among(senders)

    @property
    def rate_per_s(self) -> float:
        """The lowest of its rate limits, as far as it is this process's; 0: none."""
        return min((gate.rate_per_s for gate in self._gates), default=0.0)

    def closed_for_s(self) -> float:
        """Return for how many seconds no message should be claimed for this slot; 0: some may."""
        now = self._clock.monotonic()
        closed_s = max(self._held_until - now, self.breaker.closed_for_s(now))
        for gate in self._gates:
            closed_s = max(closed_s, gate.wait_s() - self._wait_max_s)
        return max(0.0, closed_s)

    def workers(self) -> int:
        """Return how many messages may be worked on for this slot at once, before and in their call.

        Beside the calls, by Little's law, as many as pass in the time that looking up a recipient and
        composing take; nobody waits for a receipt. None where a rate limit is what all wait for, or a single
        probe.
        """
        room = self.room()
        if self._gates or self.breaker.takes_one:
            return room
        return room + min(BESIDE_MAX * room, int(room * _BESIDE_S / max(self.limit.typical_s, 0.001)))

    def room(self) -> int:
        """Return how many calls there may be at once, waiting for their rate or made."""
        if self.breaker.takes_one:
            return 1
        room = self.limit.limit
        for gate in self._gates:
            # By Little's law so many are under way at the full rate; a few more may wait for their turn.
            room = min(room, 1 + int(gate.rate_per_s * (self.limit.typical_s + _AHEAD_S)))
        return room

    async def send(self, message: Any) -> Accepted:
        """Send a message when its turn has come. Raises HeldBackError if that is too far off; see Sender."""
        self._check_circuit(self._clock.monotonic())
        await self.turns.take()
        try:
            return await self._in_turn(message)
        finally:
            self.turns.give_back()

    async def _in_turn(self, message: Any) -> Accepted:
        # A rate's token is taken by whoever may call, so that those who wait to call gather none.
        now = self._clock.monotonic()
        self._check_circuit(now)
        if self._held_until > now or self._gates:
            await self._await_rate()
            now = self._clock.monotonic()
        is_probe = self.breaker.begin(now)
        if is_probe is None:
            self._put_back(self._gates)
            raise self._left_alone(self._wait_max_s)
        return await self._call(message, now, is_probe=is_probe)

    def _check_circuit(self, now: float) -> None:
        if (closed_s := self.breaker.closed_for_s(now)) > 0:
            raise self._left_alone(closed_s)

    def _left_alone(self, for_s: float) -> HeldBackError:
        return HeldBackError("circuit_open", f"{self.name} is left alone", for_s)

    async def _await_hold(self) -> None:
        """Wait until the provider may be called again, if that is soon. Raises HeldBackError."""
        while (wait_s := self._held_until - self._clock.monotonic()) > 0:
            if wait_s > self._wait_max_s:
                raise HeldBackError("retry_after", f"{self.name} asked to be left alone", wait_s)
            await self._clock.sleep(wait_s)

    async def _await_rate(self) -> None:
        await self._await_hold()
        entered: list[RateGate] = []
        try:
            for gate in self._gates:
                await gate.enter()
                entered.append(gate)
            await self._await_hold()  # somebody else may have been told meanwhile
        except HeldBackError:
            self._put_back(entered)
            raise

    @staticmethod
    def _put_back(gates: Iterable[RateGate]) -> None:
        for gate in gates:
            gate.put_back()

    async def _call(self, message: Any, started: float, *, is_probe: bool) -> Accepted:
        self.in_flight += 1
        try:
            accepted = await self._provider.send(message)
        except ProviderError as error:
            self._learn(error, started, is_probe=is_probe)
            raise
        except BaseException:  # cancelled, or a defect of ours: it says nothing of the provider
            self.breaker.abandoned(is_probe=is_probe)
            raise
        else:
            self._answered(started, is_probe=is_probe)
            self._answers.add(self.name, "accepted")
            return accepted
        finally:
            self.in_flight -= 1

    def _answered(self, started: float, *, is_probe: bool) -> None:
        now = self._clock.monotonic()
        took_s = now - started
        self._refusals = 0
        self.limit.answered(took_s, self.in_flight)
        self.breaker.succeeded(now, is_probe=is_probe)
        self._latency.observe(took_s)

    def _learn(self, error: ProviderError, started: float, *, is_probe: bool) -> None:
        """Draw conclusions from an error about the provider, not about its message."""
        now = self._clock.monotonic()
        if not isinstance(error, LeaseEndedError | HeldBackError):
            self._answers.add(self.name, _outcome(error))
        match error:
            case LeaseEndedError() | HeldBackError():  # it was not called
                self.breaker.abandoned(is_probe=is_probe)
                self._put_back(self._gates)
            case AccountRefusedError():
                self.breaker.refused(now, is_probe=is_probe)
            case ThrottledError(retry_after_s=float() | int() as wait_s):
                self._hold(now + wait_s)
                self.limit.overloaded(started, now)
                self.breaker.succeeded(now, is_probe=is_probe)  # it is there, and says what it wants
            case ThrottledError() | OutcomeUnknownError():
                self._refused(started, now)
                self.limit.overloaded(started, now)
                self.breaker.failed(now, is_probe=is_probe)
            case _:
                self._answered(started, is_probe=is_probe)

    def _refused(self, started: float, now: float) -> None:
        if started <= self._refused_at:
            return  # under way when another was refused: the same trouble
        self._refused_at = now
        self._refusals += 1
        if self._refusals >= _REFUSALS_MIN:
            self._hold(now + _HOLD.delay_s(1 + self._refusals - _REFUSALS_MIN))

    def _hold(self, until: float) -> None:
        self._held_until = max(self._held_until, until)


def _outcome(error: ProviderError) -> str:
    """Return what a call came to, as the metric has it."""
    match error:
        case AccountRefusedError():
            return "account_refused"
        case ThrottledError():
            return "throttled"
        case OutcomeUnknownError():
            return "unknown"
    return "refused"
