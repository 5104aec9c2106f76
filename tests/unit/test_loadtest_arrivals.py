"""Arrivals: planned beforehand, by chance or by the clock, at the rate of each phase."""

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from loadtest.scenarios.arrivals import Arrivals, Kind, order_times, plan, replayed, with_company
from loadtest.scenarios.catalogue import SCENARIOS
from loadtest.scenarios.event_bodies import EventBodies, moment
from loadtest.scenarios.histories import history_of_file
from loadtest.scenarios.scenario import Arrival, LoadTestError, Mix, Phase
from pipeline.errors import EventError
from pipeline.ingest.decoder import Decoder

decoder = Decoder(message_bytes_max=100_000)
FLAT = (Phase(name="flat", seconds=100),)


def poisson(seed: int = 1) -> np.ndarray:
    return order_times(FLAT, 200, Arrival.POISSON, np.random.default_rng(seed))


def test_poisson_arrivals_have_the_rate_and_the_scatter_of_chance() -> None:
    times = poisson()
    assert len(times) == pytest.approx(20_000, abs=5 * 20_000**0.5)
    gaps = np.diff(times)
    assert gaps.min() >= 0
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)  # exponential: both are equal
    per_second = np.histogram(times, 100, (0, 100))[0]
    assert per_second.var() / per_second.mean() == pytest.approx(1.0, abs=0.4)  # Poisson: both are equal


def test_the_same_seed_gives_the_same_arrivals_and_another_gives_others() -> None:
    assert np.array_equal(poisson(3), poisson(3))
    assert not np.array_equal(poisson(3)[:10], poisson(4)[:10])


def test_constant_arrivals_tick() -> None:
    times = order_times(FLAT, 20, Arrival.CONSTANT, np.random.default_rng(1))
    assert len(times) == 2000
    assert np.allclose(np.diff(times), 0.05, atol=1e-6)


def test_a_ramp_inside_a_phase_and_an_empty_phase() -> None:
    phases = (
        Phase(name="up", seconds=10, load=0, load_end=2),
        Phase(name="none", seconds=5, load=0),
        Phase(name="flat", seconds=10),
    )
    times = order_times(phases, 1000, Arrival.CONSTANT, np.random.default_rng(1))
    counts = np.histogram(times, [0, 5, 10, 15, 25])[0]
    assert counts[0] == pytest.approx(2500, rel=0.01)  # a quarter of the triangle
    assert counts[1] == pytest.approx(7500, rel=0.01)
    assert counts[2] == 0
    assert counts[3] == pytest.approx(10_000, rel=0.01)


def test_what_comes_with_orders_follows_them_and_stays_inside_the_run() -> None:
    orders = poisson()
    mix = Mix(invoices=0.5, duplicates=0.1, bad=0.01, invoice_delay_s=3)
    found = with_company(orders, mix, np.random.default_rng(1), until_s=100)
    assert np.all(np.diff(found.at_s) >= 0)
    assert found.at_s[-1] <= 100
    assert found.count(Kind.ORDER) == len(orders)
    for kind, share in ((Kind.INVOICE, 0.5), (Kind.DUPLICATE, 0.1), (Kind.BAD, 0.01)):
        assert found.count(kind) == pytest.approx(share * len(orders), rel=0.2)
        chosen = found.kind == kind
        behind = found.at_s[chosen] - orders[found.order[chosen]]
        assert behind.min() >= 0
        assert behind.max() <= 3
    assert np.array_equal(found.order_times(), orders)


def test_arrivals_survive_the_file_to_the_generator(tmp_path) -> None:
    found = plan(SCENARIOS["steady"])
    found.save(tmp_path / "plan.npz")
    again = Arrivals.load(tmp_path / "plan.npz")
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def test_shares_of_customers_who_can_be_reached_change_nothing_else() -> None:
    steady = SCENARIOS["steady"]
    some = msgspec.structs.replace(
        steady, mix=msgspec.structs.replace(steady.mix, sms_share=0.3, mail_share=0)
    )
    everybody, found = plan(steady), plan(some)
    assert all(np.array_equal(one, other) for one, other in zip(everybody[:3], found[:3], strict=True))
    assert everybody.with_phone.all()
    assert everybody.with_address.all()
    assert found.with_phone.mean() == pytest.approx(0.3, abs=0.05)
    assert not found.with_address.any()


def test_a_history_keeps_its_rhythm() -> None:
    begin = datetime(1997, 1, 1, tzinfo=UTC)
    history = [begin + timedelta(days=days) for days in (0, 30, 10, 100)]
    assert replayed(history, 50).tolist() == [0.0, 5.0, 15.0, 50.0]
    for wrong in ([], [begin], [begin, begin]):
        with pytest.raises(LoadTestError):
            replayed(wrong, 50)


def test_a_history_of_a_file(tmp_path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(
        "processed_at,total\n2026-11-21T10:15:00Z,74.40\n\n2026-11-21T11:15:00+01:00,1\n2026-11-22\n"
    )
    moments = history_of_file(file)
    assert moments[0] == moments[1] == datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
    assert moments[2] == datetime(2026, 11, 22, tzinfo=UTC)
    file.write_text("2026-11-21\nyesterday\n")
    with pytest.raises(LoadTestError, match=r"orders\.csv:2: not a time"):
        history_of_file(file)
    with pytest.raises(LoadTestError, match="cannot be read"):
        history_of_file(tmp_path / "none")


def test_a_rate_at_which_nothing_comes_is_said_so() -> None:
    scenario = msgspec.structs.replace(SCENARIOS["steady"], rate_per_s=1e-6)
    with pytest.raises(LoadTestError, match="no order comes"):
        plan(scenario)


def test_events_are_valid_carry_their_planned_moment_and_tell_whose_they_are() -> None:
    bodies = EventBodies("0a1b2c3d")
    for number in (0, 17, 99_999):
        order = decoder.decode_structured(bodies.body(Kind.ORDER, number, 1_000_000.25))
        assert order.event.data.order_id == bodies.order_id(number)
        assert bodies.number_of_order(bodies.order_id(number)) == number
        assert bodies.number_of_phone(bodies.phone(number)) == number
        assert bodies.number_of_address(bodies.address(number)) == number
        assert bodies.phone(number) in bodies.body(Kind.ORDER, number, 0.0).decode()
        assert bodies.address(number) in bodies.body(Kind.DUPLICATE, number, 0.0).decode()
        decoder.decode_structured(bodies.body(Kind.INVOICE, number, 0.0))
        with pytest.raises(EventError):
            decoder.decode_structured(bodies.body(Kind.BAD, number, 0.0))
    assert moment(1_000_000.25) == "1970-01-12T13:46:40.250000Z"
    nobody = bodies.body(Kind.ORDER, 3, 0.0, with_phone=False, with_address=False)
    customer = decoder.decode_structured(nobody).event.data.customer
    assert (customer.phone, customer.email, customer.id) == (None, None, "c-3")
    other = EventBodies("ffffffff")
    assert other.number_of_order(bodies.order_id(1)) is None
    assert other.number_of_address(bodies.address(1)) is None
    assert other.number_of_phone("+14155550123") is None
