"""What limits a run is named from what was measured; what a component could do follows from its cost."""

import msgspec
import numpy as np
import pytest
from load_runs import STEADY, observed, reported

from loadtest.scenarios.bottleneck import bottleneck_of
from loadtest.scenarios.limits import component_limits
from loadtest.scenarios.scenario import Part, PartHeld, Phase, StandInFault


@pytest.mark.parametrize(
    ("cores", "name"),
    [
        ({"sender": 0.97, "intake": 0.2}, "the sender process"),
        ({"intake": 0.5, "shard0-primary": 0.9, "rabbitmq": 0.55}, "CPU of the machine"),
        ({"intake": 0.3, "sender": 0.4}, "the sender process"),
    ],
)
def test_the_bottleneck_is_named_from_what_was_measured(cores: dict[str, float], name: str) -> None:
    report = reported(observed(cores=cores))
    found = bottleneck_of(report.phases[1], report.samples, cpus=2)
    assert found.name == name
    assert found.reached == (max(cores.values()) > 0.9 or sum(cores.values()) > 1.8)


def test_what_a_component_could_do_follows_from_its_cost() -> None:
    report = reported(observed(cores={"sender": 0.4, "shard0-primary": 0.1, "shard1-primary": 0.1}))
    limits = {limit.component: limit for limit in component_limits(report.phases[1], report.samples)}
    rate = report.phases[1].orders_per_s
    assert limits["sender"].orders_per_s_per_core == pytest.approx(rate / 0.4, rel=0.01)
    assert limits["primaries"].cpu_us_per_order == pytest.approx(0.2 / rate * 1e6, rel=0.01)
    assert limits["sender"].cores_max == 1
    assert limits["sender"].sms_per_min == pytest.approx(60 * rate / 0.4, rel=0.01)
    assert limits["sender"].invoices_per_min == 0
    whole = component_limits(report.phases[1], report.samples, cpus=4)
    assert [limit.component for limit in whole] == ["sender", "primaries"]
    assert whole[1].orders_per_min == pytest.approx(60 * rate * 4 / 0.2, rel=0.01)
    two = {
        limit.component: limit
        for limit in component_limits(report.phases[1], report.samples, cpus=2, many=[Part.SENDER])
    }
    assert two["sender"].mails_per_min == pytest.approx(60 * rate * 2 / 0.4, rel=0.01)


def test_a_second_mail_is_not_a_second_order() -> None:
    report = reported(observed(cores={"sender": 0.4}))
    samples = [msgspec.structs.replace(sample, mails=2 * sample.mails) for sample in report.samples]
    [sender] = component_limits(report.phases[1], samples)
    assert sender.cpu_us_per_order == pytest.approx(0.4 / report.phases[1].orders_per_s * 1e6, rel=0.01)
    assert sender.mails_per_min == pytest.approx(2 * sender.orders_per_min, rel=0.01)
    only_mails = [msgspec.structs.replace(sample, orders=0, sms=0) for sample in report.samples]
    assert component_limits(report.phases[1], only_mails)[0].cpu_us_per_order == sender.cpu_us_per_order


def test_the_bottleneck_is_looked_for_where_work_was_left_over() -> None:
    fault = StandInFault(stand_in="sms", what="slow", behaviour={})
    phases = (Phase(name="calm", seconds=10, load=1.5), Phase(name="slow", seconds=10, faults=(fault,)))

    def slow_at_the_end(planned: np.ndarray) -> np.ndarray:
        took: np.ndarray = np.where(planned > 10, 4.0, 0.05)
        return took

    seen = observed(msgspec.structs.replace(STEADY, phases=phases), committed_s=slow_at_the_end)
    for sample in seen.samples:
        sample.gauges["slot_in_flight{sms}"] = 10.0 if sample.at_s > 10 else 1.0
    found = reported(seen).bottleneck
    assert found is not None
    assert (found.phase, found.name, found.reached) == ("slow", "the provider sms", True)


@pytest.mark.parametrize(
    ("lag_s", "name"),
    [
        ({"committed": 0.1, "sms": 40.0, "mail": 0.2}, "the provider sms"),
        ({"committed": 0.1, "sms": 40.0, "mail": 9.0}, "CPU of the machine"),
        ({"committed": 2.0, "sms": 40.0, "mail": 0.2}, "CPU of the machine"),
    ],
)
def test_a_full_provider_is_the_limit_of_a_busy_machine_when_only_its_channel_is_late(
    lag_s: dict[str, float], name: str
) -> None:
    report = reported(observed(cores={"intake": 0.9, "shard0-primary": 0.9, "rabbitmq": 0.19}))
    for sample in report.samples:
        sample.gauges["slot_in_flight{sms}"] = 10.0
    phase = msgspec.structs.replace(report.phases[1], lag_s=lag_s)
    assert bottleneck_of(phase, report.samples, cpus=2).name == name


def test_the_bottleneck_of_a_drain_is_that_of_the_phase_that_drains() -> None:
    held = Phase(name="pile-up", seconds=5, faults=(PartHeld(part=Part.SENDER),))
    phases = (held, Phase(name="drain", seconds=10, load=0))
    seen = observed(msgspec.structs.replace(STEADY, phases=phases), committed_s=6.0, cores={"sender": 0.95})
    report = reported(seen)
    assert report.bottleneck is not None
    assert (report.bottleneck.phase, report.bottleneck.name) == ("drain", "the sender process")
    assert report.limits[0].component == "sender"


def test_a_primary_that_does_not_answer_is_no_session_that_waits() -> None:
    report = reported(observed())
    for sample in report.samples:
        sample.waits["away"] = 1
    phase = msgspec.structs.replace(report.phases[1], lag_s={"committed": 9.0})
    found = bottleneck_of(phase, report.samples, cpus=2)
    assert found.name == "a primary that is away"
    assert not any("sessions waited" in line for line in found.evidence)
    for sample in report.samples[: len(report.samples) * 2 // 3]:
        del sample.waits["away"]
    assert bottleneck_of(phase, report.samples, cpus=2).name.startswith("waiting, not work")
