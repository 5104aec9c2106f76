"""Why a plan says what it says: the reason that it gives is the one that it had."""

import pytest

from loadtest.planning.assumptions import load_assumptions
from loadtest.planning.costs import load_costs
from loadtest.planning.demand import Demand
from loadtest.planning.plan import make_plan
from loadtest.planning.reasons import lines_of

GIVEN, COSTS = load_assumptions(), load_costs()


@pytest.mark.parametrize(
    ("orders_per_s", "p99_s", "data_bytes", "why"),
    [
        (500, 1.0, 0.0, "as many as keep a message (3)"),
        (500, 1.0, 500e9, "one for each shard"),
        (20_000, 0.12, 500e9, "70% planned"),
        (100_000, 0.06, 0.0, "below 70% for the p99 and a lost shard"),
        (100_000, 1.0, 0.0, "below 70% for the p99 and a lost shard"),
    ],
)
def test_machines_are_for_what_asked_for_the_most(
    orders_per_s: float, p99_s: float, data_bytes: float, why: str
) -> None:
    plan = make_plan(Demand(orders_per_s=orders_per_s, p99_s=p99_s, data_bytes=data_bytes), COSTS, GIVEN)
    line = lines_of(plan, COSTS, GIVEN)[0]
    assert line.what == "machines"
    assert why in line.why


def test_a_backlog_goes_no_faster_than_the_consumers_threads() -> None:
    """Where the disks decide, machines are nearly idle; two consumers are two threads all the same."""
    plan = make_plan(Demand(orders_per_s=2000, p99_s=0.5, sms_share=0.33, data_bytes=500e9), COSTS, GIVEN)
    assert plan.sizing is not None
    assert plan.drain is not None
    assert plan.sizing.machines.busiest_share < 0.1 < plan.sizing.thread_share
    drained_per_s = plan.drain.backlog_events / plan.drain.events_s
    threads = (plan.demand.events_per_s + drained_per_s) / plan.demand.events_per_s * plan.sizing.thread_share
    assert threads == pytest.approx(COSTS.saturation_share.value)
