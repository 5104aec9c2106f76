"""Everything seen of a run, in arrays by event and by order, before anything is computed of it."""

from typing import NamedTuple

import numpy as np

from loadtest.scenarios.arrivals import Arrivals, Floats, Kind
from loadtest.scenarios.conservation import Conservation, Published
from loadtest.scenarios.generator_process import Sent
from loadtest.scenarios.ledger import Traces
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import Phase, Scenario


class Span(NamedTuple):
    """A phase as it really was, in seconds since the run's start."""

    phase: Phase
    begin_s: float
    end_s: float


class Observation(NamedTuple):
    """A run. `sms_at`, `mail_at`: UNIX times of acceptance by order number, NaN: none; None: none go out.

    `source`: who said when messages were accepted. `clock_error_s`: of the servers' clocks, at most.
    `clock_step_s`: by how much this machine's was set while the run went on.
    """

    scenario: Scenario
    spans: list[Span]
    arrivals: Arrivals
    sent: Sent
    traces: Traces
    sms_at: Floats | None
    mail_at: Floats | None
    source: str
    samples: list[Sample]
    conservation: Conservation
    resolution_s: float
    clock_error_s: float
    interrupted: bool
    failures: list[str]
    clock_step_s: float = 0.0

    @property
    def planned_orders_s(self) -> Floats:
        """When each order was to be published, by number, seconds since the start; only those that were."""
        kind = self.arrivals.kind[: len(self.sent.sent_at)]
        is_order = kind == Kind.ORDER
        times = np.full(len(self.traces.committed), np.nan)
        numbers = self.arrivals.order[: len(kind)][is_order]
        times[numbers] = self.arrivals.at_s[: len(kind)][is_order]
        return times

    @property
    def confirmed_orders(self) -> Floats:
        """When the broker confirmed each order, by number, as UNIX time."""
        kind = self.arrivals.kind[: len(self.sent.confirmed_at)]
        is_order = kind == Kind.ORDER
        times = np.full(len(self.traces.committed), np.nan)
        times[self.arrivals.order[: len(kind)][is_order]] = self.sent.confirmed_at[is_order]
        return times


def published_of(arrivals: Arrivals, sent: Sent) -> Published:
    """Return what the generator sent, by kind."""
    first = len(sent.sent_at)
    return Published(
        orders=arrivals.count(Kind.ORDER, first),
        invoices=arrivals.count(Kind.INVOICE, first),
        duplicates=arrivals.count(Kind.DUPLICATE, first),
        bad=arrivals.count(Kind.BAD, first),
        unconfirmed=first - sent.confirmed,
    )
