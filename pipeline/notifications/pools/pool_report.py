"""How the pool of a channel stands, for the report of its process."""

from pipeline.notifications.pools.provider_slot import ProviderSlot
from pipeline.notifications.pools.provider_slots import ProviderSlots
from pipeline.notifications.pools.worker_pool import WorkerPool
from pipeline.storage.control import PoolReport, SlotReport


def pool_report(pool: WorkerPool, slots: ProviderSlots) -> PoolReport:
    """Return how a pool and its providers stand. Changes nothing but the end of an open circuit's time."""
    return PoolReport(
        channel=pool.name,
        busy=pool.busy,
        waiting=pool.waiting,
        free=pool.free,
        workers=slots.workers(),
        ceiling=slots.ceiling,
        retry_budget=round(slots.budget.remaining, 1),
        slots=tuple(_slot_report(slot) for slot in slots.slots),
    )


def _slot_report(slot: ProviderSlot) -> SlotReport:
    return SlotReport(
        name=slot.name,
        in_flight=slot.in_flight,
        waiting=slot.turns.waiting,
        limit=slot.limit.limit,
        floor=slot.limit.floor,
        ceiling=slot.limit.ceiling,
        rate_per_s=slot.rate_per_s,
        circuit=slot.breaker.circuit.name.lower(),
        closed_s=round(slot.closed_for_s(), 3),
        typical_s=round(slot.limit.typical_s, 4),
    )
