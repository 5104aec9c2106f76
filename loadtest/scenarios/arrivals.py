"""When each event of a run is to be published: planned beforehand, so that nothing that happens can delay it.

Arrivals are open-loop. Latency counts from these times, whether or not the generator or the pipeline kept up:
what waits behind something slow is measured as what its customer would have seen (no coordinated omission).
"""

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtest.scenarios.scenario import EVENTS_MAX, Arrival, LoadTestError, Mix, Phase, Scenario

Floats = NDArray[np.float64]
_GRID_PER_S = 100


class Kind(IntEnum):
    """What an event is. A duplicate is an order published once more."""

    ORDER = 0
    INVOICE = 1
    DUPLICATE = 2
    BAD = 3


class Arrivals(NamedTuple):
    """The events of a run by time: seconds since its start, what each is, and the number of its order.

    `with_phone`, `with_address`: by the number of an order, whether its customer has one.
    """

    at_s: Floats
    kind: NDArray[np.uint8]
    order: NDArray[np.int64]
    with_phone: NDArray[np.bool_]
    with_address: NDArray[np.bool_]

    def count(self, kind: Kind, first: int | None = None) -> int:
        """Return how many of the `first` events (None: all) are of a kind."""
        return int(np.count_nonzero(self.kind[:first] == kind))

    def order_times(self) -> Floats:
        """Return the planned time of each order, by its number."""
        is_order = self.kind == Kind.ORDER
        times = np.empty(int(is_order.sum()))
        times[self.order[is_order]] = self.at_s[is_order]
        return times

    def save(self, path: Path) -> None:
        """Write a file for the generator."""
        np.savez(path, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> "Arrivals":
        """Read such a file."""
        with np.load(path, allow_pickle=False) as found:
            return cls(*(found[name] for name in cls._fields))


def plan(scenario: Scenario, history: Sequence[datetime] = ()) -> Arrivals:
    """Return every event of a run. Raises LoadTestError when there are none, or too many."""
    rng = np.random.default_rng(scenario.seed)
    if scenario.history:
        orders = replayed(history, scenario.seconds)
    else:
        orders = order_times(scenario.phases, scenario.rate_per_s, scenario.arrival, rng)
    if not len(orders):
        raise LoadTestError(f"{scenario.name}: no order comes at this rate and length: raise --rate")
    return with_company(orders, scenario.mix, rng, until_s=scenario.seconds)


def order_times(
    phases: Sequence[Phase], rate_per_s: float, arrival: Arrival, rng: np.random.Generator
) -> Floats:
    """Return the times of orders, sorted: a Poisson process, or ticks, at the rate of the phases.

    A process of rate 1 is bent by the inverse of the integral of the rate over time.
    """
    at, due = _integral(phases, rate_per_s)
    total = due[-1]
    if total > EVENTS_MAX:
        raise LoadTestError(f"{total:,.0f} orders: a run has {EVENTS_MAX:,} events at most")
    if arrival is Arrival.CONSTANT:
        steps = np.arange(int(total)) + 0.5
    else:
        count = int(total + 10 * total**0.5 + 20)  # ten standard deviations more than expected
        steps = np.cumsum(rng.exponential(1.0, count))
        steps = steps[steps < total]
    times: Floats = np.interp(steps, due, at)
    return times


def _integral(phases: Sequence[Phase], rate_per_s: float) -> tuple[Floats, Floats]:
    """Return points in time, and how many orders are due up to each."""
    times: list[Floats] = [np.zeros(1)]
    counts: list[Floats] = [np.zeros(1)]
    for phase in phases:
        begin, due = times[-1][-1], counts[-1][-1]
        end = phase.load if phase.load_end is None else phase.load_end
        passed = np.linspace(0.0, phase.seconds, max(2, int(phase.seconds * _GRID_PER_S)))[1:]
        growth = (end - phase.load) / phase.seconds
        times.append(begin + passed)
        counts.append(due + rate_per_s * (phase.load * passed + growth * passed**2 / 2))
    return np.concatenate(times), np.concatenate(counts)


def replayed(history: Sequence[datetime], seconds: float) -> Floats:
    """Return the moments of a history, its whole length scaled to so many seconds. Raises LoadTestError."""
    if len(history) < 2:  # noqa: PLR2004  # one moment has no length
        raise LoadTestError("a history to replay needs two orders or more")
    if len(history) > EVENTS_MAX:
        raise LoadTestError(f"{len(history):,} orders: a run has {EVENTS_MAX:,} events at most")
    moments = np.sort(np.array([moment.timestamp() for moment in history]))
    length = moments[-1] - moments[0]
    if length <= 0:
        raise LoadTestError("all orders of the history are at one moment: it has no rhythm to replay")
    scaled: Floats = (moments - moments[0]) * (seconds / length)
    return scaled


def with_company(orders: Floats, mix: Mix, rng: np.random.Generator, *, until_s: float) -> Arrivals:
    """Return orders with the invoices, duplicates and bad events that come with them, sorted by time.

    What would come after `until_s` comes then.
    """
    numbers = np.arange(len(orders))
    parts = [(orders, Kind.ORDER, numbers)]
    for kind, share in (
        (Kind.INVOICE, mix.invoices),
        (Kind.DUPLICATE, mix.duplicates),
        (Kind.BAD, mix.bad),
    ):
        chosen = numbers[rng.random(len(orders)) < share]
        later = orders[chosen] + rng.uniform(0.0, mix.invoice_delay_s, len(chosen))
        parts.append((np.minimum(later, until_s), kind, chosen))
    at_s = np.concatenate([times for times, _, _ in parts])
    kind_of = np.concatenate([np.full(len(times), kind, np.uint8) for times, kind, _ in parts])
    order = np.concatenate([chosen for _, _, chosen in parts]).astype(np.int64)
    by_time = np.argsort(at_s, kind="stable")
    with_phone, with_address = (rng.random(len(orders)) < share for share in (mix.sms_share, mix.mail_share))
    return Arrivals(at_s[by_time], kind_of[by_time], order[by_time], with_phone, with_address)
