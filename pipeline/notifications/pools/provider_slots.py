"""The providers of one channel: which of them gets a message, and who steps in."""

from collections.abc import Sequence
from typing import Any

from pipeline.clock import Clock
from pipeline.errors import HeldBackError, LeaseEndedError, ProviderError, ThrottledError
from pipeline.notifications.pools.provider_slot import BESIDE_MAX, ProviderSlot
from pipeline.notifications.pools.rate_gate import RecipientRates
from pipeline.notifications.pools.retry_budget import RetryBudget
from pipeline.notifications.provider import Accepted
from pipeline.observability.pool_metrics import PoolMetrics
from pipeline.storage.outbox import Channel

_BUDGET_WAIT_S = 10.0
_LOOK_AGAIN_S = 0.5  # an operator may have lifted what keeps a slot closed


class ProviderSlots:
    """Sends a channel's messages through whichever provider is next, and is the capacity of its pool.

    Messages are shared out by weight among the slots that can be called; those of weight 0 get some only
    while no other can. Another slot is tried within the same attempt only when the first has definitely not
    accepted the message for reasons of its own (ThrottledError and its kinds): never when the outcome is
    unknown, never when the message or its recipient was refused. Mutable state: `_credit` (smooth weighted
    round robin, as in nginx), `budget`, those of the slots.
    """

    def __init__(
        self,
        channel: Channel,
        slots: Sequence[ProviderSlot],
        *,
        recipients: RecipientRates,
        budget: RetryBudget,
        metrics: PoolMetrics,
        clock: Clock,
    ) -> None:
        self.ceiling = sum((1 + BESIDE_MAX) * slot.limit.ceiling for slot in slots)
        self.slots = tuple(slots)
        self.budget = budget
        self._channel = channel
        self._recipients = recipients
        self._credit = dict.fromkeys(self.slots, 0)
        self._held_back = metrics.held_back
        self._clock = clock
        self._workers = self.ceiling
        self._publish(metrics)

    def __repr__(self) -> str:
        return f"ProviderSlots({self._channel}: {', '.join(map(repr, self.slots))})"

    def _publish(self, metrics: PoolMetrics) -> None:
        """Show how things stand. Read by another thread, so nothing here may change anything."""
        metrics.pool_ceiling.labels(self._channel).set(self.ceiling)
        metrics.retry_budget.labels(self._channel).set_function(lambda: self.budget.remaining)
        for slot in self.slots:
            _publish_slot(slot, metrics)

    # --- the pool's capacity --------------------------------------------------------------------------

    def workers(self) -> int:
        """How many messages may be worked on at once.

        While no slot can be called: all there are room for, so that what was claimed is given back at once.
        Found anew before each claim and after each failure; in between nothing much can change.
        """
        return self._workers

    def places(self) -> int:
        """How many messages may be in the pool: as many more as are worked on; one while that is a probe."""
        slots = self._callable()
        workers = sum(slot.workers() for slot in slots)
        self._workers = workers or self.ceiling
        return workers if all(slot.breaker.takes_one for slot in slots) else 2 * workers

    def close(self) -> None:
        """Have no message wait for its call any more: it is given back."""
        for slot in self.slots:
            slot.turns.close()

    async def until_open(self) -> None:
        """Return when some slot can be called."""
        while (closed_s := min(slot.closed_for_s() for slot in self.slots)) > 0:
            await self._clock.sleep(min(closed_s, _LOOK_AGAIN_S))

    def _callable(self) -> list[ProviderSlot]:
        """Return the slots that messages are for at the moment."""
        ready = [slot for slot in self.slots if not slot.closed_for_s()]
        return [*_first_choice(ready), *(slot for slot in ready if slot.breaker.takes_one)]

    # --- sending --------------------------------------------------------------------------------------

    async def send(self, message: Any, attempt: int) -> Accepted:
        """Send a message: the `attempt`th time (1, 2, …). Raises HeldBackError; else see SmsProvider."""
        try:
            if not self._recipients.is_limited:
                return await self._within_budget(message, attempt)
            gate = await self._recipients.enter(message.to)
            try:
                return await self._within_budget(message, attempt)
            except (HeldBackError, LeaseEndedError):  # nobody was called
                gate.put_back()
                raise
        except HeldBackError as error:
            self._held_back.labels(self._channel, error.code).inc()
            raise

    async def _within_budget(self, message: Any, attempt: int) -> Accepted:
        began = self._clock.monotonic()
        if not self.budget.begin(attempt, began):
            raise HeldBackError("retry_budget", "too many tries again at the moment", _BUDGET_WAIT_S)
        try:
            accepted = await self._through_some(message)
        except (HeldBackError, LeaseEndedError):
            self.budget.not_made(attempt, began, self._clock.monotonic())
            raise
        if attempt > 1:
            self.budget.give_back(began, self._clock.monotonic())
        return accepted

    async def _through_some(self, message: Any) -> Accepted:
        if len(self.slots) == 1:
            return await self._through(self.slots[0], message)
        errors: list[ThrottledError] = []
        left = list(self.slots)
        while left:
            slot = self._next(left)
            left.remove(slot)
            try:
                return await self._through(slot, message)
            except ThrottledError as error:
                errors.append(error)
        raise _summary(errors)

    async def _through(self, slot: ProviderSlot, message: Any) -> Accepted:
        try:
            return await slot.send(message)
        except ProviderError:
            self.places()  # fewer may be worked on from now on
            raise

    def _next(self, slots: list[ProviderSlot]) -> ProviderSlot:
        """Return the slot whose turn it is; one that cannot be called only when there is no other."""
        ready = [slot for slot in slots if not slot.closed_for_s()]
        for slot in ready:
            if slot.breaker.wants_probe:
                return slot
        ready = _first_choice(ready) or slots
        ready = [slot for slot in ready if slot.turns.is_free] or ready
        for slot in ready:
            self._credit[slot] += slot.weight or 1
        best = max(ready, key=self._credit.__getitem__)
        self._credit[best] -= sum(slot.weight or 1 for slot in ready)
        return best


def _first_choice(ready: list[ProviderSlot]) -> list[ProviderSlot]:
    """Return the slots that take more than a probe: fallbacks only if there are no others."""
    firm = [slot for slot in ready if not slot.breaker.takes_one]
    return [slot for slot in firm if slot.weight] or firm


def _publish_slot(slot: ProviderSlot, metrics: PoolMetrics) -> None:
    metrics.slot_limit.labels(slot.name).set_function(lambda: slot.limit.limit)
    metrics.slot_ceiling.labels(slot.name).set_function(lambda: slot.limit.ceiling)
    metrics.slot_in_flight.labels(slot.name).set_function(lambda: slot.in_flight)
    metrics.slot_circuit.labels(slot.name).set_function(lambda: slot.breaker.circuit)


def _summary(errors: list[ThrottledError]) -> ThrottledError:
    """Return what several slots said, as one: when the first of them may be asked again, and why not now."""
    tried = [error for error in errors if not isinstance(error, HeldBackError)]
    error = (tried or errors)[-1]
    waits_s = [other.retry_after_s for other in errors if other.retry_after_s is not None]
    soonest_s = min(waits_s) if len(waits_s) == len(errors) else None
    if len(errors) == 1 or error.retry_after_s == soonest_s:
        return error
    kind = ThrottledError if tried else HeldBackError
    return kind(error.code, "no provider can take it now", soonest_s)
