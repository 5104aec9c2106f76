"""Runs of load tests that never happened: observations with known latencies, to compute reports of."""

from collections.abc import Callable
from typing import Any

import numpy as np

from loadtest.scenarios.arrivals import Arrivals, plan
from loadtest.scenarios.conservation import Conservation
from loadtest.scenarios.generator_process import Sent
from loadtest.scenarios.ledger import Traces
from loadtest.scenarios.observation import Observation, Span
from loadtest.scenarios.parts import Usage
from loadtest.scenarios.report import Report, report_of
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import Mix, Phase, Scenario

START = 1_000_000.0
STEADY = Scenario(
    name="tried",
    purpose="a test",
    rate_per_s=100,
    phases=(Phase(name="warm-up", seconds=2, measured=False), Phase(name="steady", seconds=20)),
    mix=Mix(invoices=0, duplicates=0, bad=0),
)
SUMS = Conservation(
    published=0,
    unconfirmed=0,
    stored=0,
    duplicates=0,
    quarantined=0,
    redelivered=0,
    missing=0,
    events_difference=0,
    owed=0,
    settled=0,
    open=0,
    effects_difference=0,
    orders_off=0,
    unknown=0,
    sent_twice=0,
    unaccepted=0,
)


def observed(
    scenario: Scenario = STEADY,
    *,
    committed_s: float | Callable[[np.ndarray], np.ndarray] = 0.05,
    late_s: float = 0.001,
    blocked_s: float = 0.0,
    cores: dict[str, float] | None = None,
    sends: bool = True,
    **changes: Any,
) -> Observation:
    """A run in which every order is committed so long after its planned moment, and accepted 0.1 s later."""
    arrivals = plan(scenario)
    planned = arrivals.order_times()
    took = committed_s(planned) if callable(committed_s) else np.full(len(planned), committed_s)
    committed = START + planned + took
    count = len(planned)
    times = {
        f"{channel}_{what}": committed + offset
        for channel in ("sms", "mail")
        for what, offset in (("owed", 0.0), ("claimed", 0.02), ("accepted", 0.1), ("settled", 0.3))
    }
    seen = Observation(
        scenario=scenario,
        spans=[Span(*bounds) for bounds in scenario.bounds()],
        arrivals=arrivals,
        sent=Sent(START, START + arrivals.at_s + late_s, START + arrivals.at_s + late_s + 0.01, blocked_s),
        traces=Traces(
            1, ["shard0", "shard1"], np.arange(count) % 2, committed, committed + 0.002, times, count, {}
        ),
        sms_at=committed + 0.1 if sends else None,
        mail_at=committed + 0.1 if sends else None,
        source="the stand-ins' own logs",
        samples=samples_of(arrivals, committed, scenario.seconds, cores or {"intake": 0.2, "sender": 0.3}),
        conservation=SUMS,
        resolution_s=0.02,
        clock_error_s=0.0001,
        interrupted=False,
        failures=[],
    )
    return seen._replace(**changes)


def samples_of(
    arrivals: Arrivals, committed: np.ndarray, seconds: float, cores: dict[str, float]
) -> list[Sample]:
    """A sample a second."""
    found = []
    for at in range(int(seconds) + 3):
        done = int(np.count_nonzero(committed <= START + at))
        due = int(np.count_nonzero(arrivals.at_s <= at))
        found.append(
            Sample(
                at_s=float(at),
                due=due,
                sent=due,
                confirmed=due,
                late_s=0.0,
                committed=done,
                orders=done,
                invoices=0,
                replica=done,
                sms=done,
                mails=done,
                queues={"order-processed": max(0, due - done)},
                gauges={"buffered_events{}": 3.0, "slot_limit{sms}": 10.0, "slot_in_flight{sms}": 1.0},
                waits={"CPU": 1},
                usage=Usage(
                    cpu_s={name: share * at for name, share in cores.items()},
                    rss_mb={"intake": 80.0},
                    machine_busy_s=sum(cores.values()) * at,
                ),
            )
        )
    return found


def reported(seen: Observation) -> Report:
    return report_of(seen, command="postorder loadtest run tried", target="a test")
