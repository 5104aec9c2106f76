"""The figures of each phase: rates, latencies from the planned moment, what was still open at its end."""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from operator import attrgetter
from statistics import linear_regression, median

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.scenarios.arrivals import Floats
from loadtest.scenarios.latencies import (
    Latency,
    figures_of,
    latency_of,
    percentiles_over_time,
    spread_of,
)
from loadtest.scenarios.observation import Observation, Span
from loadtest.scenarios.samples import Sample

WINDOW_S = 5.0
BY_SHARD = ("committed", "sms_accepted", "mail_accepted")
_MB_PER_H_FROM_S = 300.0
_BY_PART_FROM_S = 1199.0  # 20 minutes, but for what rounding takes: in less, caches still fill


class PhaseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One phase. Times in seconds since the run's start; rates are of what was planned in it, a second.

    `lag_s`: how many seconds of the phase's work were open at its end, by what they waited for. `latencies`:
    from the planned moment, but for `A to B`, which is from A. `spread`: how far windows of five seconds
    differ, as a share. `cores`: CPU used by each part, in cores; `machine_cores`: by all that runs there.
    """

    name: str
    measured: bool
    faults: list[str]
    begin_s: float
    end_s: float
    orders: int
    orders_per_s: float
    events_per_s: float
    lag_s: dict[str, float]
    latencies: dict[str, Latency]
    spread: dict[str, float]
    cores: dict[str, float]
    machine_cores: float
    late_p99_ms: float


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """The most of each in any five seconds, a second; and the four KPIs, a minute."""

    events_per_s: float
    orders_per_s: float
    sms_per_s: float
    mails_per_s: float
    messages_per_s: float
    orders_per_min: float
    invoices_per_min: float
    sms_per_min: float
    mails_per_min: float


def ways_of(seen: Observation) -> dict[str, Floats]:
    """Return latencies in seconds by order number, for each way that is measured; NaN: did not come."""
    start, planned = seen.sent.start, seen.planned_orders_s
    traces, moments = seen.traces, seen.traces.moments
    ways = {
        "confirmed": seen.confirmed_orders - start - planned,
        "committed": traces.committed - start - planned,
        "replica": traces.replica - start - planned,
    }
    for channel, at in (("sms", seen.sms_at), ("mail", seen.mail_at)):
        if at is not None:
            ways[f"{channel}_accepted"] = at - start - planned
            ways[f"{channel} owed to claimed"] = moments[f"{channel}_claimed"] - moments[f"{channel}_owed"]
            ways[f"{channel} claimed to accepted"] = (
                moments[f"{channel}_accepted"] - moments[f"{channel}_claimed"]
            )
    if seen.sms_at is not None and not np.isnan(moments["sms_settled"]).all():
        ways["sms_delivered"] = moments["sms_settled"] - start - planned
    return ways


def phases_of(seen: Observation) -> list[PhaseFigures]:
    """Return the figures of every phase that was reached."""
    ways, planned = ways_of(seen), seen.planned_orders_s
    return [_phase(seen, span, ways, planned) for span in seen.spans if span.end_s > span.begin_s]


def _phase(seen: Observation, span: Span, ways: Mapping[str, Floats], planned: Floats) -> PhaseFigures:
    inside = (planned >= span.begin_s) & (planned < span.end_s)
    seconds = max(1e-9, span.end_s - span.begin_s)
    at_s = seen.arrivals.at_s[: len(seen.sent.sent_at)]
    events = int(np.count_nonzero((at_s >= span.begin_s) & (at_s < span.end_s)))
    cores, machine = cores_between(seen.samples, span.begin_s, span.end_s)
    late = seen.sent.lateness_s(seen.arrivals)[(at_s >= span.begin_s) & (at_s < span.end_s)]
    parts = dict(_latencies(seen, ways, inside))
    return PhaseFigures(
        name=span.phase.name,
        measured=span.phase.measured,
        faults=[str(fault) for fault in span.phase.faults],
        begin_s=round(span.begin_s, 3),
        end_s=round(span.end_s, 3),
        orders=int(inside.sum()),
        orders_per_s=round(float(inside.sum()) / seconds, 2),
        events_per_s=round(events / seconds, 2),
        lag_s=_lags(seen, span, planned),
        latencies=parts,
        spread=dict(_spreads(span, planned, ways, inside)),
        cores=cores,
        machine_cores=machine,
        late_p99_ms=round(float(np.percentile(late, 99)) * 1e3, 2) if len(late) else 0.0,
    )


def _latencies(
    seen: Observation, ways: Mapping[str, Floats], inside: np.ndarray
) -> Iterator[tuple[str, Latency]]:
    followed = inside & _is_followed(seen)
    for name, seconds in ways.items():
        # Of what one order in so many is followed for, the others are not missing.
        chosen = seconds[inside if name == "confirmed" else followed & _is_owed(seen, name)]
        if " to " in name:
            chosen = chosen[~np.isnan(chosen)]  # a stage of those that took it
        if (found := latency_of(chosen)) is not None:
            yield name, found
    for place, shard in enumerate(seen.traces.shards):
        for name in BY_SHARD:
            of_shard = inside & (seen.traces.shard == place) & _is_owed(seen, name)
            chosen = ways[name][of_shard] if name in ways else np.zeros(0)
            if (found := latency_of(chosen)) is not None:
                yield f"{name}_{shard}", found


def _is_owed(seen: Observation, way: str) -> NDArray[np.bool_]:
    """Return which orders go a way: a message is sent to those who have a number or an address."""
    channel = next((name for name in ("sms", "mail") if way.startswith(name)), "")
    owed = {"sms": seen.arrivals.with_phone, "mail": seen.arrivals.with_address}
    return owed.get(channel, np.ones(len(seen.traces.committed), bool))


def _is_followed(seen: Observation) -> np.ndarray:
    """Return which orders are followed; all of a run that is not too long."""
    if seen.traces.followed == 1:
        return np.ones(len(seen.traces.committed), bool)
    found: np.ndarray = ~np.isnan(seen.traces.committed)
    return found


def _lags(seen: Observation, span: Span, planned: Floats) -> dict[str, float]:
    """Return how many seconds of work were open at the phase's end, at its own rate.

    The orders due by then that had not come so far, those of phases before it too.
    """
    inside = (planned >= span.begin_s) & (planned < span.end_s)
    due = (planned < span.end_s) & _is_followed(seen)
    rate = float(inside.sum()) / max(1e-9, span.end_s - span.begin_s)
    end = seen.sent.start + span.end_s
    came = {"committed": seen.traces.committed, "sms": seen.sms_at, "mail": seen.mail_at}
    found = {}
    for name, at in came.items():
        if at is not None and rate > 0:
            is_open = due & _is_owed(seen, name) & ~(at <= end)
            found[name] = round(float(is_open.sum()) * seen.traces.followed / rate, 3)
    return found


def _spreads(
    span: Span, planned: Floats, ways: Mapping[str, Floats], inside: np.ndarray
) -> Iterator[tuple[str, float]]:
    for name, seconds in ways.items():
        for figure, share in (("p50_ms", 50.0), ("p99_ms", 99.0)):
            windows = percentiles_over_time(
                planned[inside] - span.begin_s,
                seconds[inside],
                until_s=span.end_s - span.begin_s,
                share=share,
                step_s=WINDOW_S,
            )
            if (spread := spread_of(windows)) is not None:
                yield f"{name}.{figure}", spread


def cores_between(samples: list[Sample], begin_s: float, end_s: float) -> tuple[dict[str, float], float]:
    """Return how many cores each part used in a stretch of time, and the whole machine."""
    inside = [sample for sample in samples if begin_s <= sample.at_s <= end_s]
    if len(inside) < 2:  # noqa: PLR2004  # a rate needs two readings
        return {}, 0.0
    first, last = inside[0], inside[-1]
    seconds = max(1e-9, last.at_s - first.at_s)
    cores = {
        name: round((used - first.usage.cpu_s.get(name, 0.0)) / seconds, 3)
        for name, used in last.usage.cpu_s.items()
    }
    busy = last.usage.machine_busy_s - first.usage.machine_busy_s
    return cores, round(busy / seconds, 3)


def peaks_of(samples: list[Sample]) -> Peaks:
    """Return the best five seconds of each count."""
    counts = ("committed", "orders", "invoices", "sms", "mails")
    best = {name: _best(samples, attrgetter(name)) for name in counts}
    both = _best(samples, lambda sample: sample.sms + sample.mails)
    return Peaks(
        events_per_s=best["committed"],
        orders_per_s=best["orders"],
        sms_per_s=best["sms"],
        mails_per_s=best["mails"],
        messages_per_s=both,
        orders_per_min=round(best["orders"] * 60),
        invoices_per_min=round(best["invoices"] * 60),
        sms_per_min=round(best["sms"] * 60),
        mails_per_min=round(best["mails"] * 60),
    )


def _best(samples: list[Sample], count: Callable[[Sample], int]) -> float:
    # Five seconds, but for what samples leave: no less than four, and more when they are further apart.
    best, first, least_s = 0.0, 0, 0.8 * WINDOW_S
    for sample in samples:
        while (
            sample.at_s - samples[first].at_s > WINDOW_S and sample.at_s - samples[first + 1].at_s >= least_s
        ):
            first += 1
        passed = sample.at_s - samples[first].at_s
        if passed >= least_s:
            gained = count(sample) - count(samples[first])
            best = max(best, gained / passed)
    return round(best, 1)


def gained_per_s(samples: list[Sample], begin_s: float, end_s: float, count: str) -> float:
    """Return the mean rate of a count in a stretch of time, a second."""
    inside = [sample for sample in samples if begin_s <= sample.at_s <= end_s]
    if len(inside) < 2:  # noqa: PLR2004  # as above
        return 0.0
    gained: int = getattr(inside[-1], count) - getattr(inside[0], count)
    return gained / max(1e-9, inside[-1].at_s - inside[0].at_s)


def memory_growth_mb_per_h(samples: list[Sample]) -> float | None:
    """Return how fast the pipeline's memory grows, by a straight line. None: nothing tells."""
    at_s = np.array([sample.at_s for sample in samples])
    if not len(at_s) or at_s[-1] - at_s[0] < _MB_PER_H_FROM_S:
        return None
    settled = at_s > at_s[0] + (at_s[-1] - at_s[0]) / 4  # what a start takes is no growth
    total = np.array([sum(sample.usage.rss_mb.values()) for sample in samples])
    if not total.any():
        return None  # of an installation that ran already
    slope = np.polyfit(at_s[settled], total[settled], 1)[0]
    return round(float(slope) * 3600, 1)


def memory_figures(samples: list[Sample], spans: list[Span]) -> dict[str, float]:
    """Return `memory.PART.growth_mb_per_h`, over the second half of what is measured; none of a short run.

    The median of the slopes of its three thirds: what an allocator takes at once is in one of them.
    """
    measured = [span for span in spans if span.phase.measured]
    if not measured or measured[-1].end_s < _BY_PART_FROM_S:
        return {}
    half_s = (measured[0].begin_s + measured[-1].end_s) / 2
    thirds = list(pairwise(np.linspace(half_s, measured[-1].end_s, 4)))
    found = {}
    for part in sorted({part for sample in samples for part in sample.usage.rss_mb}):
        seen = [(sample.at_s, sample.usage.rss_mb[part]) for sample in samples if part in sample.usage.rss_mb]
        parts = [[one for one in seen if begin_s <= one[0] < end_s] for begin_s, end_s in thirds]
        if all(len(each) > 1 for each in parts):
            slopes = [linear_regression(*zip(*each, strict=True)).slope for each in parts]
            found[f"memory.{part}.growth_mb_per_h"] = round(median(slopes) * 3600, 1)
    return found


def flat(phases: list[PhaseFigures]) -> dict[str, float]:
    """Return the figures of phases by name: `steady.committed.p99_ms`, `steady.lag_s.mail`."""
    found: dict[str, float] = {}
    for phase in phases:
        found |= {f"{phase.name}.{name}": value for name, value in figures_of(phase.latencies).items()}
        found |= {f"{phase.name}.lag_s.{name}": value for name, value in phase.lag_s.items()}
        found[f"{phase.name}.orders_per_s"] = phase.orders_per_s
    return found
