"""What workers say becomes what is seen: rates since the last look, and nothing of a process that is gone."""

import pytest

from consumers.allocator.messages import WorkerWord
from consumers.allocator.observing import STALE_S, Observer
from pipeline.allocation.bounds import Allocation
from pipeline.observability.metrics import Metrics
from pipeline.observability.readings import NAMES, labelled, read, total

GIVEN = Allocation(workers=2, prefetch=100, batch_max=50)


class Said:
    """As much of a worker as is looked at."""

    def __init__(self, number: int, pid: int = 1000) -> None:
        self.number = number
        self.pid = pid + number
        self.cpu = 0.0
        self.heard_at_s = 0.0
        self.word: WorkerWord | None = None

    def cpu_s(self) -> float:
        return self.cpu

    def says(self, at_s: float, cpu: float, **readings: float) -> None:
        self.heard_at_s, self.cpu = at_s, cpu
        named = {key.replace("__", "{", 1) + ("}" if "__" in key else "{}"): v for key, v in readings.items()}
        self.word = WorkerWord(readings=named, prefetch=100, batch_max=50)


def look(observer: Observer, at_s: float, *workers: Said, ready: int | None = 0):
    return observer.look(at_s, workers, ready, GIVEN)  # type: ignore[arg-type]


def test_rates_are_those_since_the_last_look_over_all_workers() -> None:
    observer, first, second = Observer(), Said(1), Said(2)
    first.says(0, 10, events_total__orders=100)
    second.says(0, 20, events_total__orders=100)
    seen = look(observer, 0, first, second)
    assert (seen.running, seen.settled_per_s, seen.worker_cpu) == (0, 0, 0)
    first.says(2, 11, events_total__orders=300, events_total__duplicates=20, parked_total__shard0=20)
    second.says(2, 20.5, events_total__orders=160)
    seen = look(observer, 2, first, second)
    assert (seen.running, seen.settled_per_s) == (2, 150)
    assert seen.worker_cpu == pytest.approx((0.5 + 0.25) / 2)


def test_what_waits_is_where_the_workers_are_now() -> None:
    observer, first, second = Observer(), Said(1), Said(2)
    taken, window = (f"{name}_deliveries__order-processed" for name in ("open", "prefetch"))
    first.says(0, 0, **{taken: 80, window: 100}, buffered_events=90, lane_events__s0=100)
    second.says(0, 0, **{taken: 20, window: 100}, buffered_events=5, lane_events__s0=0)
    seen = look(observer, 0, first, second, ready=7)
    assert (seen.ready, seen.held, seen.window_used, seen.lanes) == (7, 110, 0.5, 1.0)
    assert look(observer, 1, first, second, ready=None).ready is None


def test_the_window_is_that_of_the_fullest_queue_and_strays_have_none() -> None:
    worker = Said(1)
    names = ("order-processed", "invoice-generated", "dead-letters")
    unsettled = dict(zip((f"open_deliveries__{name}" for name in names), (95, 0, 10), strict=True))
    windows = dict(zip((f"prefetch_deliveries__{name}" for name in names), (100, 100, 10), strict=True))
    worker.says(0, 0, **unsettled, **windows)
    assert look(Observer(), 0, worker).window_used == 0.95


def test_batches_are_judged_by_those_since_the_last_look() -> None:
    observer, worker = Observer(), Said(1)
    worker.says(
        0,
        0,
        batch_events_sum=1000,
        batch_events_count=1000,
        write_seconds_sum__s0=9,
        write_seconds_count__s0=9,
    )
    assert look(observer, 0, worker).write_s is None
    worker.says(
        2,
        0,
        batch_events_sum=1400,
        batch_events_count=1010,
        write_seconds_sum__s0=10,
        write_seconds_count__s0=19,
    )
    seen = look(observer, 2, worker)
    assert seen.batch_fill == pytest.approx(400 / 10 / 50)
    assert seen.write_s == pytest.approx(0.1)


def test_who_is_silent_or_new_brings_no_rates() -> None:
    observer, worker = Observer(), Said(1)
    worker.says(0, 5, events_total__orders=1000)
    look(observer, 0, worker)
    assert look(observer, STALE_S + 1, worker).running == 0
    worker.pid += 1  # another process: its counters begin anew, and so does its CPU
    worker.says(10, 0.1, events_total__orders=3)
    seen = look(observer, 10, worker)
    assert (seen.running, seen.settled_per_s, seen.worker_cpu) == (0, 0, 0)
    worker.says(12, 0.3, events_total__orders=5)
    assert look(observer, 12, worker).settled_per_s == 1


@pytest.mark.parametrize(
    ("change", "is_held"),
    [
        ({}, False),
        ({"held_back_total__sms,rate_limited": 6}, True),
        ({"held_back_total__sms,retry_after": 1}, True),
        ({"held_back_total__sms,retry_budget": 1}, False),
        ({"held_back_total__email,rate_limited": 9}, False),
        ({"slot_circuit__twilio": 2}, True),
        ({"slot_circuit__smtp": 2}, False),
    ],
)
def test_a_channel_is_held_by_what_a_provider_or_its_rate_asks(
    change: dict[str, float], *, is_held: bool
) -> None:
    observer, worker = Observer(), Said(1)
    usual = {
        "slot_limit__twilio": 30,
        "slot_limit__twilio_second": 2,
        "slot_in_flight__twilio": 29,
        "slot_in_flight__twilio_second": 2,
        "slot_limit__smtp": 16,
        "pool_waiting__sms": 5,
        "held_back_total__sms,rate_limited": 5,
    }
    worker.says(0, 0, **usual)
    look(observer, 0, worker)
    worker.says(2, 0, **(usual | change))
    sms, email = look(observer, 2, worker).channels
    assert (sms.name, sms.calls, sms.limit, sms.waiting, sms.is_full) == ("sms", 31, 32, 5, True)
    assert sms.is_held is is_held
    assert (email.limit, email.calls, email.is_full) == (16, 0, False)


def test_who_sends_nothing_has_no_channels() -> None:
    worker = Said(1)
    worker.says(0, 0, buffered_events=0)
    assert look(Observer(), 0, worker).channels == ()


def test_every_reading_is_the_name_of_a_metric() -> None:
    """A metric that is renamed would be read as 0 for ever."""
    metrics = Metrics()
    known = set(metrics.registry._names_to_collectors)
    assert set(NAMES) <= known


def test_readings_are_named_by_the_values_of_their_labels() -> None:
    metrics = Metrics()
    metrics.events.labels("orders").inc(3)
    metrics.events.labels("duplicates").inc(4)
    metrics.held_back.labels("sms", "rate_limited").inc(2)
    found = read(metrics)
    others = dict.fromkeys(("invoices", "customers", "quarantined"), 0)
    assert labelled(found, "events_total") == {"orders": 3, "duplicates": 4, **others}
    assert total(found, "events_total") == 7
    assert labelled(found, "held_back_total") == {"sms,rate_limited": 2}
    assert total(found, "no_such") == 0


def test_what_transactions_took_is_read_without_a_look_at_each_bucket_of_each_shard() -> None:
    """400 shards have 6,300 of them: reading each took 0.15 s of every second from the event loop."""
    metrics = Metrics()
    for shard in range(400):
        metrics.write_seconds.observe(f"shard{shard}", 0.5)
    metrics.write_seconds.observe("shard0", 1.5)
    found = {name: value for name, value in read(metrics).items() if name.startswith("write_seconds")}
    assert found == {"write_seconds_count{}": 401, "write_seconds_sum{}": 201.5}
    metrics.write_seconds.collect = lambda: pytest.fail("all buckets were read")  # type: ignore[method-assign]
    read(metrics)


def test_of_what_there_is_for_each_shard_the_sum_and_the_fullest_are_read() -> None:
    """Sample by sample it took 5 ms of the event loop for 420 shards."""
    metrics = Metrics()
    for shard in range(420):
        metrics.lane_events.places[f"shard{shard}"] = range(shard)
        metrics.parked.add(f"shard{shard}", count=2)
    found = read(metrics)
    assert (found["lane_events{}"], found["parked_total{}"]) == (419, 840)
    assert len(found) < 30
    page = metrics.registry.page("")[0].decode()
    assert 'postorder_lane_events{shard="shard7"} 7.0' in page
    assert 'postorder_parked_total{shard="shard7"} 2.0' in page
