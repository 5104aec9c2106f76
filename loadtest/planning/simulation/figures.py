"""Percentiles of what was simulated: each parcel counts as many times as it has events."""

import msgspec
import numpy as np

from loadtest.planning.simulation.world import Floats, Written

WINDOW_S = 1.0


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Latency in milliseconds of so many events."""

    events: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class OverTime(msgspec.Struct, frozen=True, kw_only=True):
    """p99 in milliseconds by when events came, a point a second; None: nothing came."""

    affected: list[float | None]
    others: list[float | None]


def percentile(values: Floats, weights: Floats, share: float) -> float:
    """Return the smallest value that a share of the weight is at most. 0 without values."""
    if not len(values):
        return 0.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-12)))
    return float(values[order][place])


def spread_of(written: Written, chosen: np.ndarray) -> Spread:
    """Return the figures of chosen parcels."""
    latency, events = written.latency_s[chosen], written.events[chosen]
    return Spread(
        events=int(events.sum()),
        p50_ms=round(percentile(latency, events, 0.5) * 1000, 1),
        p99_ms=round(percentile(latency, events, 0.99) * 1000, 1),
        max_ms=round(float(latency.max()) * 1000, 1) if len(latency) else 0.0,
    )


def p99_by_shard(written: Written, shards: int) -> list[float]:
    """Return each shard's p99 in milliseconds."""
    order = np.argsort(written.shard, kind="stable")
    cuts = np.searchsorted(written.shard[order], np.arange(shards + 1))
    found = []
    for number in range(shards):
        chosen = order[cuts[number] : cuts[number + 1]]
        found.append(round(percentile(written.latency_s[chosen], written.events[chosen], 0.99) * 1000, 1))
    return found


def over_time(written: Written, seconds: float) -> OverTime:
    """Return p99 over time, of what was affected and of the rest."""
    return OverTime(
        affected=_windows(written, written.affected, seconds),
        others=_windows(written, ~written.affected, seconds),
    )


def _windows(written: Written, chosen: np.ndarray, seconds: float) -> list[float | None]:
    at_s, latency, events = (column[chosen] for column in (written.at_s, written.latency_s, written.events))
    window = np.floor(at_s / WINDOW_S).astype(np.int64)
    found: list[float | None] = []
    for number in range(int(seconds / WINDOW_S)):
        inside = window == number
        value = percentile(latency[inside], events[inside], 0.99) * 1000 if inside.any() else None
        found.append(round(value, 1) if value is not None else None)
    return found


def back_to_normal_s(line: list[float | None], since_s: float, normal_ms: float) -> float | None:
    """Return how long after a moment a p99 was last above twice what is normal; None: to the end."""
    later = range(int(since_s / WINDOW_S), len(line))
    high = [number for number in later if (line[number] or 0.0) > 2 * normal_ms]
    if not high:
        return 0.0
    if high[-1] == len(line) - 1:
        return None
    return (high[-1] + 1) * WINDOW_S - since_s
