"""What a plan says of a demand: pinned numbers, and laws that must hold whatever the numbers."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.planning.assumptions import load_assumptions
from loadtest.planning.costs import CostVector, Measured
from loadtest.planning.demand import Demand
from loadtest.planning.layout import Layout
from loadtest.planning.loads import Part, cores_busy, event_cost, formed_batch
from loadtest.planning.placement import even_shards, max_to_mean, skew_bound
from loadtest.planning.plan import make_plan, prefetch_for
from loadtest.planning.reference_sizing import reference_rows
from pipeline.errors import SettingsError

GIVEN = load_assumptions()
FIGURES = {
    "broker_event_us": 5, "broker_message_us": 45, "broker_waking_us": 0, "broker_wakings_per_s": 200,
    "consumer_event_us": 40, "consumer_message_us": 15,
    "consumer_transaction_us": 600, "primary_event_us": 37, "primary_transaction_us": 900,
    "replica_event_us": 8, "replica_transaction_us": 200, "publisher_event_us": 6, "publisher_message_us": 11,
    "sms_sender_us": 400, "sms_primary_us": 150, "sms_replica_us": 30, "mail_sender_us": 500,
    "mail_primary_us": 170, "mail_replica_us": 35, "event_bytes": 480, "order_bytes": 1700,
    "invoice_bytes": 700, "wal_event_bytes": 2500, "wal_message_bytes": 1500, "transaction_ms": 4,
    "idle_p99_ms": 20, "turn_ms": 60, "saturation_share": 0.88, "failover_s": 22, "moved_rows_per_s": 20_000,
    "moved_pause_ms": 230, "consumer_rss_mb": 143, "sender_rss_mb": 150,
}  # fmt: skip
COSTS = CostVector(
    **{name: Measured(value=value, unit="", command="a test") for name, value in FIGURES.items()}
)


def demand(orders_per_s: float = 500, **others: float) -> Demand:
    return Demand(orders_per_s=orders_per_s, **others)


def intake_only(orders_per_s: float, **others: float) -> Demand:
    return demand(orders_per_s, sms_share=0, mail_share=0, invoice_share=0, **others)


def test_an_event_costs_what_its_parts_cost() -> None:
    each = event_cost(COSTS, batch=100, events_per_message=50, followers=1.0)
    assert each.broker == pytest.approx(5 + 45 / 50)
    assert each.followers == each.broker
    assert each.consumer == pytest.approx(40 + 15 / 50 + 600 / 100)
    assert each.primary == pytest.approx(37 + 9)
    assert each.replica == pytest.approx(8 + 2)
    assert each.total == pytest.approx(each.broker + each.consumer + each.primary + each.replica)


def test_a_broker_is_woken_for_each_message_when_few_come() -> None:
    costs = msgspec.structs.replace(COSTS, broker_waking_us=Measured(value=1000, unit="", command="a test"))
    one, some, many, full = (
        event_cost(costs, batch=1, events_per_message=1, messages_per_s=rate).broker
        for rate in (0, 200, 1800, math.inf)
    )
    assert (one, some, many, full) == pytest.approx((1050, 550, 150, 50))
    alone, shared, never = (
        cores_busy(intake_only(1800), costs, GIVEN, 1, brokers=brokers)[Part.BROKER] for brokers in (1, 9, 0)
    )
    assert (alone, shared, never) == pytest.approx((1800 * 150e-6, 1800 * 550e-6, 1800 * 50e-6))


def test_cores_are_rates_times_costs() -> None:
    cores = cores_busy(demand(1000), COSTS, GIVEN, 100)
    assert cores[Part.SMS] == pytest.approx(0.4)
    assert cores[Part.MAIL] == pytest.approx(1.1 * 0.5)  # a tenth of the invoices get a mail of their own
    assert cores[Part.PRIMARIES] == pytest.approx(2 * 0.046 + 0.15 + 1.1 * 0.17)


def test_a_batch_is_what_comes_while_one_lingers_or_waits_for_a_transaction() -> None:
    assert formed_batch(1000, 0.005, 0.004, in_flight=2, batch_max=500) == pytest.approx(6)
    assert formed_batch(1000, 0.005, 0.1, in_flight=2, batch_max=500) == pytest.approx(51)
    assert formed_batch(1e6, 0.005, 0.1, in_flight=2, batch_max=500) == 500


def test_a_small_shop_needs_what_keeps_a_message_and_no_more() -> None:
    plan = make_plan(demand(5), COSTS, GIVEN)
    assert plan.problems == []
    assert plan.sizing is not None
    assert plan.sizing.machines.by_role == {"machines": 3}
    assert (plan.sizing.installations, plan.sizing.machines.shards, plan.sizing.consumers) == (1, 1, 2)


def test_disks_decide_where_there_is_much_data() -> None:
    plan = make_plan(demand(5, data_bytes=30e12), COSTS, GIVEN)
    assert plan.sizing is not None
    # 200 GB, 70 % of it, primary and replica: 70 GB a shard, and room for the fullest.
    assert plan.sizing.machines.shards >= 30e12 / 70e9
    assert plan.skew * 30e12 / plan.sizing.machines.shards <= 70e9
    assert plan.skew <= GIVEN.utilisation.skew_max


def test_what_cannot_be_met_says_why() -> None:
    plan = make_plan(demand(1e6), COSTS, GIVEN)
    assert any(
        "1,000,000 SMS/s need 10,000 senders (short_code), 400 at most" in text for text in plan.problems
    )
    assert any("SMS calls at once, 100 allowed" in text for text in plan.problems)


def test_a_p99_under_what_an_idle_system_takes_is_refused() -> None:
    with pytest.raises(SettingsError, match="--p99: 20 ms is less than an idle system takes: 20 ms"):
        make_plan(demand(p99_s=0.02), COSTS, GIVEN)


def test_a_p99_just_above_it_leaves_machines_idle() -> None:
    slow, fast = (make_plan(demand(20_000, p99_s=p99), COSTS, GIVEN).sizing for p99 in (1.0, 0.03))
    assert slow is not None
    assert fast is not None
    assert fast.p99_s <= 0.03
    assert fast.machines.total > slow.machines.total


def test_a_relay_that_takes_too_little_is_named() -> None:
    mail = msgspec.structs.replace(GIVEN.mail, mails_per_s=100.0)
    plan = make_plan(demand(200), COSTS, msgspec.structs.replace(GIVEN, mail=mail))
    assert [text for text in plan.problems if "the relay takes 100" in text]


def test_after_a_failover_a_machine_carries_two_primaries_and_its_part_of_the_rest() -> None:
    sizing = make_plan(intake_only(10_000), COSTS, GIVEN).sizing
    assert sizing is not None
    machines, cores = sizing.machines, sizing.cores
    beside = (cores[Part.PRIMARIES] - cores[Part.REPLICAS]) / machines.shards * machines.skew / 4
    shared_out = machines.total / (machines.total - 1)
    assert sizing.down.busy_share == pytest.approx(machines.busy_share * shared_out + beside)
    assert sizing.down.headroom == pytest.approx(0.88 - sizing.down.busy_share)


def test_prefetch_holds_no_more_than_the_buffer() -> None:
    wanted = intake_only(10_000, events_per_message=100)
    sizing = make_plan(wanted, COSTS, GIVEN).sizing
    assert sizing is not None
    slow = msgspec.structs.replace(sizing, p99_s=60.0)
    assert prefetch_for(wanted, GIVEN, slow) == 200
    assert prefetch_for(wanted, GIVEN, msgspec.structs.replace(sizing, p99_s=0.01)) == 100


def test_a_network_that_is_too_slow_is_named() -> None:
    machine = msgspec.structs.replace(GIVEN.machine, network_mbit=10.0)
    plan = make_plan(demand(2000), COSTS, msgspec.structs.replace(GIVEN, machine=machine))
    assert [text for text in plan.problems if "faster networks, or more machines" in text]


def test_one_queue_is_not_trusted_with_more_than_it_can_take() -> None:
    # 50 µs a message, 70 % of one process: 14,000 messages a second.
    one, two = (make_plan(intake_only(rate), COSTS, GIVEN).sizing for rate in (13_900, 14_100))
    assert one is not None
    assert two is not None
    assert (one.installations, two.installations) == (1, 2)


def test_messages_of_fifty_need_fewer_brokers() -> None:
    single, fifty = (
        make_plan(intake_only(100_000, events_per_message=events), COSTS, GIVEN).sizing for events in (1, 50)
    )
    assert single is not None
    assert fifty is not None
    assert (single.installations, fifty.installations) == (8, 1)


def test_the_stated_sizing_comes_out() -> None:
    rows = {(row.reading, row.cost): row for row in reference_rows(COSTS, GIVEN)}
    stated = rows["10 M orders/s", "stated"]
    assert (stated.cpu_us, stated.orders_per_s_of_machine) == (173.9, 23_000)
    assert (stated.machines_by_cpu, stated.machines_by_data) == (435, 417)
    minute = rows["10 M orders/min", "stated"]
    assert (minute.machines_by_cpu, minute.machines) == (8, 417)


def test_420_shards_are_uneven_by_an_eighth_because_slots_are_whole() -> None:
    assert max_to_mean(420) == pytest.approx(11 / (4096 / 420))
    assert skew_bound(420) == pytest.approx(max_to_mean(420))


def test_shard_counts_at_which_slots_cannot_be_even_are_passed_over() -> None:
    assert even_shards(1000, 1.15) == 1076
    assert max_to_mean(1076) <= 1.15
    assert even_shards(4097, 1.15) is None


@given(st.integers(2, 300))
@settings(max_examples=15, deadline=None)
def test_no_ring_is_less_even_than_its_bound(shards: int) -> None:
    assert max_to_mean(shards) <= skew_bound(shards) + 1e-9


@given(
    orders=st.floats(1, 5e4),
    p99=st.floats(0.05, 5),
    events=st.integers(1, 200),
    layout=st.sampled_from(Layout),
    data=st.sampled_from([0.0, 1e11, 5e12]),
)
@settings(max_examples=25, deadline=None)
def test_every_plan_keeps_to_its_own_limits(
    orders: float, p99: float, events: int, layout: Layout, data: float
) -> None:
    wanted = demand(orders, p99_s=p99, events_per_message=events, data_bytes=data)
    plan = make_plan(wanted, COSTS, GIVEN, layout)
    sizing = plan.sizing
    assert sizing is not None
    assert sizing.p99_s <= p99
    assert sizing.down.headroom > 0
    assert sizing.connections <= GIVEN.postgresql.connections_max
    assert sum(sizing.cores.values()) <= sizing.machines.total * GIVEN.machine.cores
    assert 1 <= sizing.batch <= GIVEN.settings.batch_max
    assert plan.drain is not None
    assert plan.drain.events_s < math.inf
    assert plan.prefetch * events <= max(GIVEN.settings.buffer_events_max, events)
    held = data * plan.skew / sizing.machines.shards * (2 if layout is Layout.SHARED else 1)
    assert held <= GIVEN.machine.disk_gb * 1e9 * GIVEN.machine.disk_fill_max * 1.001


@given(st.floats(1, 1e5), st.floats(1.5, 10))
@settings(max_examples=25, deadline=None)
def test_more_orders_never_need_fewer_cores(orders: float, times: float) -> None:
    few, many = (make_plan(demand(rate), COSTS, GIVEN).sizing for rate in (orders, orders * times))
    assert few is not None
    assert many is not None
    assert sum(many.cores.values()) > sum(few.cores.values())
