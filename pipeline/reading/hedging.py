"""One answer out of two servers: who is asked, when the second is, and what that may cost."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from pipeline.errors import PostorderError, StorageTimeoutError, StorageUnavailableError
from pipeline.reading.endpoint import Ask, Attempt, Endpoint

_BURST = 3.0
_KEPT_BACK = 0.1  # of the budget, for repeats after failures, which are not refused
_PRIMARY_HANDICAP = 1.5  # the primary has the writes to do


class HedgeBudget:
    """A token bucket: each read earns a share of a second request, so that these stay below it.

    It starts with one, so that a program that reads once need not wait for a server that hangs. Repeats after
    a failure are not refused, but paid for, if need be later.
    """

    def __init__(self, share: float) -> None:
        self._share = share * (1 - _KEPT_BACK)
        self._tokens = 1.0

    def __repr__(self) -> str:
        return f"HedgeBudget({self._tokens:.2f} requests)"

    def earn(self) -> None:
        """Count a read."""
        self._tokens = min(_BURST, self._tokens + self._share)

    def spend(self) -> bool:
        """Take a hedge; False when there is none to take."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def owe(self) -> None:
        """Count a repeat after a failure."""
        self._tokens = max(-_BURST, self._tokens - 1)


def cheapest_first(replica: Endpoint, primary: Endpoint, now: float) -> list[Endpoint]:
    """Return both, first the one that is likely to answer sooner: by recent latency and reads under way."""

    def cost(endpoint: Endpoint, handicap: float) -> float:
        return endpoint.latency.recent_s(now) * (1 + len(endpoint.pending)) * handicap

    if cost(replica, 1.0) <= cost(primary, _PRIMARY_HANDICAP):
        return [replica, primary]
    return [primary, replica]


def are_slow(endpoints: Sequence[Endpoint], slow_s: float) -> bool:
    """Return whether the median answer of each takes longer: then both have too much to do already."""
    medians = [endpoint.latency.percentile_s(0.5) for endpoint in endpoints]
    return all(median is not None and median > slow_s for median in medians)


def hedge_delay_s(endpoints: Sequence[Endpoint], *, initial_s: float, least_s: float) -> float:
    """Return after how long the second server is asked, too.

    It is the 95th percentile of the server that has the lower one: what a healthy server takes. The slow
    one's own would grow with the very answers that are to be cut short.
    """
    known = [p95 for endpoint in endpoints if (p95 := endpoint.latency.percentile_s(0.95)) is not None]
    return max(least_s, min(known, default=initial_s))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """When the next candidate is asked, apart from when one fails.

    `at_once`: together with the first. `delay_s`: when none has answered by then, if the budget allows; while
    it does not, a read looks again and again, and so those that take longest get the hedges there are.
    `patience_s`: when none has answered by then, whatever the budget: a server that takes so long is away.
    None: not for this reason.
    """

    at_once: bool = False
    delay_s: float | None = None
    patience_s: float | None = None


_ONE_BY_ONE = Plan()


class Contest:
    """One read: candidates are asked in their order, as planned, until one has answered.

    The next one is asked at once when one fails.
    """

    def __init__(
        self,
        candidates: Sequence[Endpoint],
        ask: Ask,
        *,
        budget: HedgeBudget,
        plan: Plan = _ONE_BY_ONE,
    ) -> None:
        self._left = list(candidates)
        self._ask = ask
        self._budget = budget
        self._plan = plan
        self.attempts: list[Attempt] = []
        self.asked = 0
        self.errors: list[PostorderError] = []

    async def run(self, timeout_s: float) -> Attempt:
        """Return the attempt that has answered. Raises the servers' errors, or StorageTimeoutError."""
        began = time.monotonic()
        try:
            self._ask_next()
            while self._plan.at_once and self._left:
                self._ask_next()
            while (winner := self._winner()) is None:
                await self._wait(time.monotonic() - began, timeout_s)
            return winner
        finally:
            for attempt in self.attempts:
                attempt.abandon()

    def _ask_next(self) -> None:
        self.asked += 1
        self.attempts.append(self._left.pop(0).start(self._ask))

    def _winner(self) -> Attempt | None:
        """Return the attempt with an answer; ask the next candidate for each that failed."""
        for attempt in [*self.attempts]:
            if not attempt.answer.done():
                continue
            error = _error_of(attempt)
            if error is None:
                return attempt
            self.attempts.remove(attempt)
            if not error.retryable:
                raise error  # the other server would say the same
            self.errors.append(error)
            if self._left:
                self._budget.owe()
                self._ask_next()
        if not self.attempts:
            raise self._all_failed()
        return None

    async def _wait(self, passed_s: float, timeout_s: float) -> None:
        """Wait for an answer until there is something else to do."""
        if passed_s >= timeout_s:
            names = " or ".join(attempt.endpoint.node.name for attempt in self.attempts)
            raise StorageTimeoutError("; ".join([*map(str, self.errors), f"{names}: no answer in time"]))
        plan, limits_s = self._plan, [timeout_s - passed_s]
        if self._left and plan.patience_s is not None:
            if passed_s >= plan.patience_s:
                self._budget.owe()
                self._ask_next()
                return
            limits_s.append(plan.patience_s - passed_s)
        if self._left and plan.delay_s is not None:
            limits_s.append(plan.delay_s)
        done, _ = await asyncio.wait(
            {attempt.answer for attempt in self.attempts},
            timeout=min(limits_s),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done and self._may_hedge():
            self._ask_next()

    def _may_hedge(self) -> bool:
        if self._plan.delay_s is None or not self._left or not self._left[0].has_room:
            return False
        return self._budget.spend()

    def _all_failed(self) -> PostorderError:
        if len(self.errors) == 1:
            return self.errors[0]
        return StorageUnavailableError("; ".join(map(str, self.errors)))


def _error_of(attempt: Attempt) -> PostorderError | None:
    if attempt.answer.cancelled():
        return StorageTimeoutError(f"{attempt.endpoint.node.name}: given up")
    error = attempt.answer.exception()
    if error is None or isinstance(error, PostorderError):
        return error
    raise error  # a defect of ours
