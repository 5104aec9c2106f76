"""What a machine does at a rate, where its knee is, and how a ramp is held against that. No stack here."""

import math
import os
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from loadtest.planning.assumptions import load_assumptions
from loadtest.planning.costs import load_costs
from loadtest.planning.demand import Demand
from loadtest.planning.loads import Part as Model
from loadtest.planning.prediction import Here, fair_shares, knee_here, point_at, with_full_sets
from loadtest.planning.session import beside_the_pipeline, calibrated
from loadtest.planning.verification import (
    CALIBRATING,
    SEARCHING,
    Verification,
    compare,
    demand_here,
    measured_knee,
    scenario_for,
)
from loadtest.scenarios.figures import PhaseFigures
from loadtest.scenarios.latencies import Latency
from loadtest.scenarios.scenario import Part, checked

COSTS, GIVEN = load_costs(), load_assumptions()
INTAKE = Demand(orders_per_s=1, sms_share=0, mail_share=0, invoice_share=0)
HERE = Here(cores=2, equipment_us=20)


def phase(name: str, rate: float, p99_ms: float) -> PhaseFigures:
    latency = Latency(
        count=1, missing=0, p50_ms=1, p90_ms=1, p99_ms=p99_ms, p999_ms=1, max_ms=1, mean_ms=1, histogram=""
    )
    return PhaseFigures(
        name=name,
        measured=True,
        faults=[],
        begin_s=0,
        end_s=1,
        orders=1,
        orders_per_s=rate,
        events_per_s=rate,
        lag_s={},
        latencies={"committed": latency},
        spread={},
        cores={},
        machine_cores=1,
        late_p99_ms=0,
    )


def test_busier_with_every_order_and_slower() -> None:
    points = [point_at(INTAKE, COSTS, GIVEN, HERE, rate) for rate in (100, 1000, 4000, 8000)]
    for figure in ("busy_share", "load_share", "p99_s", "batch"):
        values = [getattr(point, figure) for point in points]
        assert values == sorted(values)
    assert all(point.load_share < point.busy_share for point in points)  # sets are smaller than they could be


def test_the_busiest_process_gives_way() -> None:
    wanted = dict.fromkeys(Model, 0.0) | {
        Model.CONSUMERS: 0.9, Model.BROKER: 0.6, Model.PRIMARIES: 0.8, Model.SMS: 0.3, Model.MAIL: 0.5,
    }  # fmt: skip
    assert fair_shares(wanted, room=4) == wanted
    got = fair_shares(wanted, room=2.7)  # 0.4 less: consumers and senders have 0.65 each then
    assert got == pytest.approx(
        wanted | {Model.CONSUMERS: 0.65, Model.SMS: 0.65 * 3 / 8, Model.MAIL: 0.65 * 5 / 8}
    )
    assert sum(fair_shares(wanted, room=0.9).values()) == pytest.approx(0.9)


def test_sets_grow_when_the_cpus_are_full() -> None:
    """A busiest process that could do with less is not starved yet, and the machine can do more."""
    patient = msgspec.structs.replace(INTAKE, p99_s=60)
    wasteful = msgspec.structs.replace(HERE, times={Model.CONSUMERS: 1.5})
    points = [point_at(patient, COSTS, GIVEN, wasteful, rate) for rate in range(2000, 12_000, 100)]
    full = [point for point in points if point.busy_share > 0.9699 and not point.is_starved]
    assert full
    above = []
    for point in full:
        assert point.busy_share == pytest.approx(HERE.usable_cores / HERE.cores)
        least = with_full_sets(patient, COSTS, GIVEN, point.orders_per_s)
        above.append(point.part_us[Model.CONSUMERS] * point.orders_per_s / 1e6 / least[Model.CONSUMERS])
    assert above == sorted(above, reverse=True)
    assert 1 <= above[-1] < 1.1 < above[0]


def test_a_sender_that_gives_way_is_starved_at_once_because_its_sets_are_full_already() -> None:
    both = demand_here(Demand(orders_per_s=1, p99_s=60))
    knee = knee_here(both, COSTS, GIVEN, HERE)
    assert knee.limit == "CPU of the machine"
    before, after = (point_at(both, COSTS, GIVEN, HERE, knee.orders_per_s * by) for by in (0.99, 1.01))
    assert before.load_share < 0.9  # small sets of the others are what fills the machine
    assert (before.is_starved, after.is_starved) == (False, True)


def test_the_knee_is_where_a_limit_is_reached_and_not_before() -> None:
    knee = knee_here(INTAKE, COSTS, GIVEN, HERE)
    before, after = (point_at(INTAKE, COSTS, GIVEN, HERE, knee.orders_per_s * by) for by in (0.98, 1.02))
    assert before.p99_s < INTAKE.p99_s < after.p99_s
    assert before.load_share < 1


def test_a_sender_is_one_thread() -> None:
    both = demand_here(Demand(orders_per_s=1, invoice_share=0, p99_s=60))
    knee = knee_here(both, COSTS, GIVEN, Here(cores=64, equipment_us=0))
    assert knee.limit == "one process's thread"
    a_core = 1e6 / (COSTS.sms_sender_us.value + COSTS.mail_sender_us.value)
    assert knee.orders_per_s == pytest.approx(a_core * COSTS.saturation_share.value, rel=0.01)


def test_what_others_use_is_not_there_for_the_pipeline() -> None:
    shared = msgspec.structs.replace(HERE, other_cores=0.6)
    assert shared.usable_cores == pytest.approx(2 * 0.97 - 0.6)
    patient = msgspec.structs.replace(INTAKE, p99_s=1e6)
    point = point_at(patient, COSTS, GIVEN, shared, knee_here(patient, COSTS, GIVEN, shared).orders_per_s)
    assert point.busy_share == pytest.approx(0.67, abs=0.01)


def test_a_stricter_p99_lowers_the_knee() -> None:
    easy, strict = (
        knee_here(msgspec.structs.replace(INTAKE, p99_s=p99), COSTS, GIVEN, HERE).orders_per_s
        for p99 in (1.0, 0.2)
    )
    assert strict < easy


def test_the_measured_knee_lies_between_the_steps_where_the_p99_crosses() -> None:
    phases = [phase("a", 100, 50), phase("b", 200, 100), phase("c", 400, 10_000)]
    broken = {"c": "committed p99 10,000 ms"}
    # A hiccup below a rate that was kept up with says nothing.
    assert measured_knee(phases, broken | {"a": "a hiccup"}, 1000) == pytest.approx(300)
    # Half way from 100 to 10,000 on a logarithmic scale is 1,000.
    assert measured_knee(phases, broken, 1000) == pytest.approx(300)
    assert measured_knee(phases, {}, 1000) == 400
    assert measured_knee(phases, dict.fromkeys("abc", "lag"), 1000) == 0
    assert measured_knee(phases, {"c": "lag"}, 50_000) == pytest.approx(300)


def test_the_ramp_goes_around_the_predicted_knee() -> None:
    scenario = checked(scenario_for(demand_here(INTAKE), 1000))
    loads = [phase.load for phase in scenario.phases[1:]]
    assert loads == [*CALIBRATING, *SEARCHING] == sorted(loads)
    assert loads[-1] >= 2
    assert scenario.seconds < 180
    assert scenario.parts == (Part.INTAKE,)
    assert scenario.ramp is not None
    assert scenario.ramp.p99_ms_max == 1000
    some = Demand(orders_per_s=1, sms_share=0.3, mail_share=0.9, invoice_share=0.5, late_share=0.1)
    sends = scenario_for(demand_here(some), 100)
    assert sends.parts == (Part.INTAKE, Part.SENDER)
    assert (sends.mix.sms_share, sends.mix.mail_share, sends.mix.invoices) == (0.3, 0.9, 0.5)
    assert demand_here(some).mails_per_s == pytest.approx(1.5 * 0.9)  # each invoice has a mail of its own


@pytest.mark.parametrize(
    ("error", "problems", "within"),
    [(0.15, [], True), (-0.15, [], True), (0.16, [], False), (0.0, ["late"], False), (math.inf, [], False)],
)
def test_what_counts_as_good(error: float, problems: list[str], *, within: bool) -> None:
    found = Verification(
        at="", machine="", command="", demand=INTAKE, equipment_us=0, equipment_cores=0, other_cores=0,
        knee_predicted=1, limit="", knee_measured=1, error=error, gave_out="", steps=[], parts=[],
        problems=problems,
    )  # fmt: skip
    assert found.within is within


def test_shipped_figures_all_say_where_they_come_from() -> None:
    for name in type(COSTS).__struct_fields__:
        figure = getattr(COSTS, name)
        assert figure.unit
        assert figure.note or figure.command, name
        assert not figure.command or figure.machine, name
    assert Path("var") not in Path(COSTS.order_bytes.note).parents


def ramp_of_a_machine_that_does_as_predicted(times: float = 1.0, others: float = 0.0) -> SimpleNamespace:
    """A report whose every step shows what the model says, with CPU that is so many times as much.

    `others`: cores of other programs.
    """
    here = Here(
        cores=os.cpu_count() or 1,
        equipment_us=20 / times,
        equipment_cores=0.1,
        other_cores=others,
    )
    names = {
        "rabbitmq": "broker",
        "intake": "consumers",
        "shard0-primary": "primaries",
        "shard0-replica": "replicas",
    }
    knee = knee_here(INTAKE, COSTS, GIVEN, here).orders_per_s
    phases, steps = [], []
    for number, load in enumerate((0.3, 0.6, 0.97, 1.03, 1.2)):
        point = point_at(INTAKE, COSTS, GIVEN, here, knee * load)
        broken = point.p99_s > INTAKE.p99_s
        one = phase(f"step{number}", knee * load / times, min(1e5, point.p99_s * 1000))
        cores = {name: point.part_us[part] * knee * load / 1e6 for name, part in names.items()}
        cores |= {"generator": 20 * times * one.orders_per_s / 1e6, "observer": 0.1}
        machine = sum(cores.values()) + others
        phases.append(msgspec.structs.replace(one, cores=cores, machine_cores=machine))
        steps.append(SimpleNamespace(name=one.name, broken=["it broke"] if broken else []))
    return SimpleNamespace(
        phases=phases, knee=SimpleNamespace(steps=steps), at="", machine="", command="", problems=[],
        invalid_because=[],
    )  # fmt: skip


@pytest.mark.parametrize("others", [0.0, 0.4])
def test_a_machine_that_does_as_predicted_is_found_to_do_so(others: float) -> None:
    found = compare(INTAKE, COSTS, GIVEN, ramp_of_a_machine_that_does_as_predicted(others=others))
    assert abs(found.error) < 0.02
    assert found.within is (others == 0)
    assert [problem[:27] for problem in found.problems] == ["other programs used 0.40 of"] * (others > 0)
    assert found.equipment_us == pytest.approx(20, abs=0.5)
    assert found.equipment_cores == pytest.approx(0.1, abs=0.005)
    assert found.other_cores == pytest.approx(others, abs=0.005)
    assert [step.kept_up for step in found.steps] == [True, True, True, False, False]
    for part in found.parts:
        assert part.predicted_us == pytest.approx(part.measured_us, rel=0.02)
    for step in found.steps:
        assert not step.kept_up or step.busy_predicted == pytest.approx(step.busy_measured, rel=0.05)


def test_a_machine_that_takes_twice_the_cpu_is_found_out() -> None:
    found = compare(INTAKE, COSTS, GIVEN, ramp_of_a_machine_that_does_as_predicted(times=2))
    assert found.error > 0.5
    assert not found.within
    assert all(part.measured_us > 1.1 * part.predicted_us for part in found.parts if part.part == "consumers")


def test_the_first_steps_tell_what_things_cost_here() -> None:
    ramp = ramp_of_a_machine_that_does_as_predicted(times=2)
    steps = ramp.phases[:2]
    here = beside_the_pipeline(steps)
    calibrated_here = calibrated(INTAKE, COSTS, GIVEN, here, steps)
    for step in steps:
        point = point_at(INTAKE, COSTS, GIVEN, calibrated_here, step.orders_per_s)
        assert point.busy_share == pytest.approx(sum(step.cores.values()) / here.cores, rel=0.1)


def test_small_sets_of_an_idle_machine_are_told_from_dear_work() -> None:
    """Parts that cost 1.3 times what the vector says, and with idle CPUs a fifth of a core each on top."""
    there = Here(
        cores=2,
        equipment_us=20,
        times=dict.fromkeys(Model, 1.3),
        idle_cores=dict.fromkeys((Model.CONSUMERS, Model.PRIMARIES), 0.2),
    )
    names = {Model.BROKER: "rabbitmq", Model.CONSUMERS: "intake", Model.PRIMARIES: "shard0-primary"}
    names[Model.REPLICAS] = "shard0-replica"
    steps = []
    for rate in (1000, 2500):
        point = point_at(INTAKE, COSTS, GIVEN, there, rate)
        cores = {name: point.part_us[part] * rate / 1e6 for part, name in names.items()}
        cores["generator"] = 20 * rate / 1e6
        one = phase(f"at {rate}", rate, 50)
        steps.append(msgspec.structs.replace(one, cores=cores, machine_cores=sum(cores.values())))
    here = msgspec.structs.replace(beside_the_pipeline(steps), cores=2)
    found = calibrated(INTAKE, COSTS, GIVEN, here, steps)
    for part in names:
        assert found.times[part] == pytest.approx(1.3, rel=0.02)
    assert found.idle_cores[Model.PRIMARIES] == pytest.approx(0.2, abs=0.01)
    assert found.idle_cores[Model.REPLICAS] == pytest.approx(0, abs=0.01)
