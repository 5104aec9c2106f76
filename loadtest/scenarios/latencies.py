"""Latencies in HdrHistograms: recorded in sets after the run, so that measuring costs the run nothing."""

from collections.abc import Mapping
from itertools import pairwise

import msgspec
import numpy as np
from hdrh.histogram import HdrHistogram

from loadtest.scenarios.arrivals import Floats

LOWEST_US, HIGHEST_US = 1, 24 * 3600 * 1_000_000
DIGITS = 3
_PARTS = 2048  # of a doubling: finer than the histogram's three digits
SHARES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}
CURVE_SHARES = tuple(100 * (1 - 10 ** (-step / 8)) for step in range(33))


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution in milliseconds. `missing`: what never came, and is in no percentile.

    `histogram`: the HdrHistogram in microseconds, in its own encoding (compressed, base64).
    """

    count: int
    missing: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    mean_ms: float
    histogram: str


def recorded(seconds: Floats) -> HdrHistogram:
    """Return a histogram of latencies in seconds. Below a microsecond counts as one."""
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    microseconds = np.clip(np.round(seconds * 1e6), LOWEST_US, HIGHEST_US)
    # One call takes 7 µs, so equal values go in together. Rounding down to 1/2048 of a doubling keeps all
    # that the histogram tells apart.
    unit = np.maximum(1.0, 2.0 ** (np.floor(np.log2(microseconds)) - np.log2(_PARTS)))
    values, counts = np.unique(np.floor(microseconds / unit) * unit, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(int(value), int(count))
    return histogram


def latency_of(seconds: Floats) -> Latency | None:
    """Return the figures of latencies in seconds, NaN: never came. None: there are none at all."""
    if not len(seconds):
        return None
    came = seconds[~np.isnan(seconds)]
    histogram = recorded(came)
    # The histogram keeps three digits of the largest; the largest itself is known.
    largest_ms = float(came.max()) * 1e3 if len(came) else 0.0
    by_share = _values(histogram, list(SHARES.values()))
    values = {
        f"{name}_ms": round(min(by_share[share] / 1e3, largest_ms), 3) for name, share in SHARES.items()
    }
    return Latency(
        count=len(came),
        missing=len(seconds) - len(came),
        max_ms=round(largest_ms, 3),
        mean_ms=round(float(came.mean()) * 1e3, 3) if len(came) else 0.0,
        histogram=histogram.encode().decode(),
        **values,
    )


def curve(latency: Latency) -> list[tuple[float, float]]:
    """Return the distribution for a plot: percentile, and milliseconds."""
    histogram = HdrHistogram.decode(latency.histogram)
    highest = 100 * (1 - 1 / max(2, latency.count))
    shares = [share for share in CURVE_SHARES if share <= highest]
    return [(share, value / 1e3) for share, value in _values(histogram, shares).items()]


def _values(histogram: HdrHistogram, shares: list[float]) -> dict[float, int]:
    """Return the values at rising percentiles, in one pass; 0 of an empty histogram."""
    found: dict[float, int] = histogram.get_percentile_to_value_dict(shares)
    return {share: found.get(share, 0) for share in shares}


def percentiles_over_time(
    planned_s: Floats, latency_s: Floats, *, until_s: float, share: float, step_s: float
) -> list[float | None]:
    """Return a percentile in milliseconds for each stretch of planned time; None: nothing came."""
    found: list[float | None] = []
    place = np.floor(planned_s / step_s).astype(int)
    order = np.argsort(place, kind="stable")
    edges = np.searchsorted(place[order], np.arange(int(np.ceil(until_s / step_s)) + 1))
    for begin, end in pairwise(edges):
        part = latency_s[order[begin:end]]
        part = part[~np.isnan(part)]
        found.append(round(float(np.percentile(part, share)) * 1e3, 2) if len(part) else None)
    return found


def spread_of(values: list[float | None]) -> float | None:
    """Return how far windows of a run differ: standard deviation over mean. None: fewer than three."""
    known = np.array([value for value in values if value is not None])
    if len(known) < 3 or not known.mean():  # noqa: PLR2004  # two say nothing of a spread
        return None
    return round(float(known.std(ddof=1) / known.mean()), 4)


def figures_of(latencies: Mapping[str, Latency]) -> dict[str, float]:
    """Return flat figures: `committed.p99_ms` and so on. Of what never came there is a count, and no time."""
    names = [name for name in Latency.__struct_fields__ if name != "histogram"]
    return {
        f"{kind}.{name}": getattr(found, name)
        for kind, found in latencies.items()
        for name in names
        if found.count or not name.endswith("_ms")
    }
