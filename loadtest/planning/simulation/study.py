"""All scenarios in one run, as data: what `postorder plan --simulate` writes."""

import msgspec

from loadtest.intake_report import machine, now_text
from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.demand import Demand
from loadtest.planning.latency import idle_s
from loadtest.planning.loads import event_cost, formed_batch, transaction_s
from loadtest.planning.placement import skew_bound
from loadtest.planning.simulation.scenarios import (
    Outcome,
    hot_customer,
    ordinary,
    shard_added,
    shard_lost,
)
from loadtest.planning.simulation.world import Installation
from loadtest.planning.sizing import Sizing
from pipeline.sharding.slots import SLOT_COUNT

SHARDS = 420
CURVE_SHARDS = (1, 2, 5, 10, 20, 50, 100, 200, 420)
CURVE_LINGERS_MS = (5.0, 50.0, 500.0)
_ROWS_OF_ORDER = 4  # order, inbox row, SMS, mail


class BatchCurve(msgspec.Struct, frozen=True, kw_only=True):
    """CPU µs for an event by shards that one consumer at full speed writes to, at a linger time."""

    linger_ms: float
    shards: list[int]
    cpu_us: list[float]


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """What was simulated and what came out."""

    at: str
    machine: str
    command: str
    installation: Installation
    busy_share: float
    outcomes: list[Outcome]
    batches: list[BatchCurve]


def simulate(  # noqa: PLR0917  # what a study is made of
    demand: Demand,
    costs: CostVector,
    given: Assumptions,
    sizing: Sizing,
    command: str,
    shards: int = SHARDS,
) -> Study:
    """Simulate every scenario with so many equal shards, of which the fullest is as busy as planned.

    A shard that was lost has after its return as much less room as the plan says of its machine.
    """
    busy = given.utilisation.planned_share / skew_bound(shards)
    of_shard = demand.events_per_s / shards
    linger_s = min(given.settings.lingers_ms) / 1000
    installation = Installation(
        shards=shards,
        events_per_s=demand.events_per_s,
        shard_per_s=of_shard / busy,
        idle_s=idle_s(costs, linger_s) / 2,
    )
    beside = max(0.0, sizing.down.busy_share - sizing.machines.busy_share)
    rows = demand.data_bytes / SLOT_COUNT / costs.order_bytes.value * _ROWS_OF_ORDER
    return Study(
        at=now_text(),
        machine=machine(),
        command=command,
        installation=installation,
        busy_share=busy,
        outcomes=[
            ordinary(installation),
            hot_customer(installation),
            shard_lost(installation, costs, installation.shard_per_s * (1 - beside)),
            shard_added(installation, costs, rows),
        ],
        batches=[batch_curve(costs, given, linger_ms) for linger_ms in CURVE_LINGERS_MS],
    )


def batch_curve(costs: CostVector, given: Assumptions, linger_ms: float) -> BatchCurve:
    """Return what an event costs by how many shards share a consumer's events."""
    planned = given.utilisation.planned_share
    per_s = planned * 1e6 / (costs.consumer_event_us.value + costs.consumer_message_us.value)
    found = []
    for shards in CURVE_SHARDS:
        batch = formed_batch(
            per_s / shards,
            linger_ms / 1000,
            transaction_s(costs, planned),
            in_flight=given.settings.batches_in_flight,
            batch_max=given.settings.batch_max,
        )
        found.append(round(event_cost(costs, batch=batch, events_per_message=1).total, 1))
    return BatchCurve(linger_ms=linger_ms, shards=list(CURVE_SHARDS), cpu_us=found)
