"""The cost vector: read, refused, and made anew from what benchmarks wrote."""

from pathlib import Path

import msgspec
import pytest

from loadtest.planning.assumptions import load_assumptions
from loadtest.planning.cost_sources import (
    Files,
    FootprintFile,
    IntakeFile,
    PhaseLatency,
    RampFile,
    RampPhase,
    WriterFile,
    as_toml,
    read_files,
)
from loadtest.planning.cost_writer import cpus, fixed_part, load_at, new_costs
from loadtest.planning.costs import SHIPPED, CostVector, estimated, load_costs
from loadtest.planning.loads import FULL_SHARE, event_cost
from loadtest.planning.queueing import waiting_s
from pipeline.errors import SettingsError

COSTS = load_costs()
NONE = Files(intake=None, writer=None, notifications=None, reshard=None, footprint=None, ramp=None)
FROM = {"at": "2026-11-21T11:36:38Z", "machine": "2 CPUs, Linux", "command": "python -m loadtest x"}


def flow(total: dict[str, float], events_per_batch: float) -> dict[str, object]:
    cpu = {**total, "total": sum(total.values()) - total["publisher"]}
    return {
        "events": 1, "seconds": 1, "events_per_s": 10_000, "cpu_us": cpu, "consumer_rss_mb": 140,
        "events_per_batch": events_per_batch, "batches": {},
    }  # fmt: skip


SINGLE = {"broker": 52, "primaries": 39, "replicas": 9, "consumers": 57, "publisher": 17}
FIFTY = {"broker": 6, "primaries": 38, "replicas": 9, "consumers": 40, "publisher": 6}
INTAKE = msgspec.convert(
    {
        **FROM,
        "single": flow(SINGLE, 400),
        "batch50": flow(FIFTY, 500),
        "drain": flow(SINGLE, 400),
        "open_loop": {"rate": 5000, "events": 1, "p50_ms": 70, "p99_ms": 400},
    },
    IntakeFile,
)


def test_what_was_measured_comes_out_again() -> None:
    costs = new_costs(COSTS, msgspec.structs.replace(NONE, intake=INTAKE))
    for flow_us, batch, events in ((SINGLE, 400, 1), (FIFTY, 500, 50)):
        each = event_cost(costs, batch=batch, events_per_message=events)
        assert each.broker == pytest.approx(flow_us["broker"], rel=0.01)
        assert each.consumer == pytest.approx(flow_us["consumers"], rel=0.01)
        assert each.primary == pytest.approx(39, rel=0.02)
        assert each.replica == pytest.approx(9, rel=0.02)
    assert costs.saturation_share.value == pytest.approx(10_000 * 174e-6 / 2)
    assert costs.broker_message_us.command == FROM["command"]
    assert costs.order_bytes == COSTS.order_bytes


def test_the_turn_gives_back_the_measured_p99() -> None:
    costs = new_costs(COSTS, msgspec.structs.replace(NONE, intake=INTAKE))
    load = load_at(costs, 5000, 2, beside_cores=5000 * 17e-6)
    assert load == pytest.approx(5000 * (17 + 157) * 1e-6 / (2 * FULL_SHARE), rel=0.01)
    wait = waiting_s(costs.turn_ms.value / 1000, 2, load, 0.99)
    assert wait * 1000 + costs.idle_p99_ms.value == pytest.approx(400, rel=0.01)


def test_a_fixed_part_is_found_exactly_where_there_is_one() -> None:
    assert fixed_part((batch, 40 + 800 / batch) for batch in (1, 5, 20, 50, 500)) == pytest.approx(800)
    assert fixed_part([(1, 40.0), (50, 40.0)]) == pytest.approx(0)
    assert fixed_part([(1, 40.0)]) == 0
    assert fixed_part([]) == 0


def test_the_cheaper_way_of_writing_a_batch_counts() -> None:
    figures = [
        {"batch": batch, "way": way, "client_us": us, "primaries_us": us, "replicas_us": us, "wall_us": 1000}
        for batch, few, many in ((1, 600, 1700), (50, 60, 40), (500, 60, 20))
        for way, us in (("one statement", few), ("COPY", many))
    ]
    file = msgspec.convert({**FROM, "figures": figures}, WriterFile)
    costs = new_costs(COSTS, msgspec.structs.replace(NONE, writer=file))
    cheaper = fixed_part([(1, 600), (50, 40), (500, 20)])
    assert costs.primary_transaction_us.value == pytest.approx(cheaper, rel=0.001)
    assert costs.transaction_ms.value == 4.0  # a second statement's worth, four at once


def test_a_ramp_gives_idle_and_turn() -> None:
    """Steps whose p99 is that of a turn of 30 ms at their load, however busy in small sets the CPUs are."""
    costs = new_costs(COSTS, msgspec.structs.replace(NONE, intake=INTAKE))

    def step(rate: float, lag: float = 0.0, turn_s: float = 0.03) -> RampPhase:
        wait_s = waiting_s(turn_s, 2, load_at(costs, rate, 2, beside_cores=0.3), 0.99)
        return RampPhase(
            measured=True,
            events_per_s=rate,
            lag_s={"committed": lag},
            latencies={"committed": PhaseLatency(p50_ms=1, p99_ms=15 + wait_s * 1000 if not lag else 9000)},
            machine_cores=1.8,
            cores={"intake": 1.5, "generator": 0.2},  # 0.1 are somebody else's
        )

    steps = [step(100, turn_s=0), step(3000), step(6000), *(step(9000, lag=5) for _ in range(5))]
    ramp = RampFile(**FROM, phases=steps)
    costs = new_costs(COSTS, msgspec.structs.replace(NONE, ramp=ramp, intake=INTAKE))
    assert costs.idle_p99_ms.value == 15
    assert costs.turn_ms.value == pytest.approx(30, rel=0.02)
    assert "2 rates" in costs.turn_ms.note


def test_a_ramp_gives_what_waking_a_broker_costs() -> None:
    full_us = COSTS.broker_event_us.value + COSTS.broker_message_us.value

    def step(rate: float, busy: float = 0.6, *, measured: bool = True) -> RampPhase:
        broker = rate * (full_us + 1500 / (1 + rate / 200)) / 1e6
        if busy > 0.85:  # no CPU for waking it that often
            broker *= 0.7
        return RampPhase(
            measured=measured,
            events_per_s=rate,
            lag_s={},
            latencies={"committed": PhaseLatency(p50_ms=1, p99_ms=15)},
            machine_cores=2.0,  # others' work is not the broker's
            cores={"rabbitmq": broker, "intake": 2 * busy - broker},
        )

    ramp = RampFile(**FROM, phases=[step(200, measured=False), step(500), step(2000), step(6000, 0.95)])
    costs = new_costs(COSTS, msgspec.structs.replace(NONE, ramp=ramp))
    assert costs.broker_waking_us.value == pytest.approx(1500, rel=0.001)
    assert costs.broker_wakings_per_s.value == pytest.approx(200, rel=0.001)
    assert "3 rates" in costs.broker_waking_us.note
    flat = msgspec.structs.replace(ramp, phases=[step(500)])  # one rate does not tell
    assert (
        new_costs(COSTS, msgspec.structs.replace(NONE, ramp=flat)).broker_waking_us == COSTS.broker_waking_us
    )


def test_a_footprint_replaces_estimates() -> None:
    file = FootprintFile(
        **FROM, event_bytes=700, order_bytes=1, invoice_bytes=2, wal_event_bytes=3, wal_message_bytes=4
    )
    costs = new_costs(COSTS, msgspec.structs.replace(NONE, footprint=file))
    assert not {"order_bytes", "wal_message_bytes"} & {*estimated(costs)}
    assert costs.wal_event_bytes.value == 3


def test_a_vector_survives_being_written(tmp_path: Path) -> None:
    path = tmp_path / "costs.toml"
    path.write_text(as_toml({name: getattr(COSTS, name) for name in CostVector.__struct_fields__}))
    assert load_costs(path) == COSTS


@pytest.mark.parametrize(
    ("find", "replace", "problem"),
    [
        ("value", "valeu", "unknown field `valeu`"),
        ("[turn_ms]", "[turn]", "unknown field `turn`"),
        ("[turn_ms]\nvalue = ", "[turn_ms]\nvalue = -", "turn_ms.value must be a number of 0 or more"),
        ("[turn_ms]\nvalue = ", "[turn_ms]\nvalue = nan #", "turn_ms.value must be a number of 0 or more"),
        ("[saturation_share]\nvalue = ", "[saturation_share]\nvalue = 1", "saturation_share.value"),
        ("[turn_ms]", "[turn_ms", "costs.toml: "),
    ],
)
def test_a_broken_vector_is_refused_in_a_line(tmp_path: Path, find: str, replace: str, problem: str) -> None:
    path = tmp_path / "costs.toml"
    path.write_text(SHIPPED.read_text().replace(find, replace, 1))
    with pytest.raises(SettingsError) as caught:
        load_costs(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_assumptions_are_checked(tmp_path: Path) -> None:
    from loadtest.planning.assumptions import SHIPPED as ASSUMPTIONS  # noqa: PLC0415  # the same name

    path = tmp_path / "a.toml"
    path.write_text(ASSUMPTIONS.read_text().replace("planned_share = 0.7", "planned_share = 1.7"))
    with pytest.raises(SettingsError, match="planned_share"):
        load_assumptions(path)
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_assumptions(tmp_path / "none.toml")


def test_a_result_that_is_none_is_refused_and_a_missing_one_is_not(tmp_path: Path) -> None:
    assert read_files(tmp_path, tmp_path) == NONE
    (tmp_path / "intake.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"intake.json: Object missing required field"):
        read_files(tmp_path, tmp_path)


def test_cpus_of_a_machines_name() -> None:
    assert cpus("16 CPUs, Linux 6.1") == 16
    assert cpus("a laptop") == 1
