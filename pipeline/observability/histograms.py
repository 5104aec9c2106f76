"""Histograms, counters and gauges for the hot path: plain lists and dicts, read by whoever collects.

The library's own take a lock and walk every bucket for each value. These are written by the event loop alone;
another thread reads them, and may see one value more in the buckets than in the sum.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

LATENCY_BUCKETS_S: Final = tuple(
    sorted({*(round(0.001 * 1.3**step, 6) for step in range(45)), 1.0, 10.0, 60.0})
)
"""Thirty per cent apart at most, from 1 ms to 2 min, so that a percentile can be read within about 15 %; and
those that objectives are told in."""


class LatencyHistogram(Collector):
    """A histogram that takes a batch's values at once, at a fifth of the library's cost for each."""

    def __init__(self, name: str, documentation: str, buckets_s: Sequence[float] = LATENCY_BUCKETS_S) -> None:
        self._name = name
        self._documentation = documentation
        self._buckets_s = buckets_s
        self._counts = [0] * (len(buckets_s) + 1)
        self._sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Count a value in seconds."""
        self._counts[bisect_left(self._buckets_s, value_s)] += 1
        self._sum_s += value_s

    def observe_all(self, values_s: Sequence[float]) -> None:
        """Count values in seconds."""
        counts, buckets_s = self._counts, self._buckets_s
        for value_s in values_s:
            counts[bisect_left(buckets_s, value_s)] += 1
        self._sum_s += sum(values_s)

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Return the upper bounds, each with the number of values up to it, and the sum in seconds."""
        bounds = [*map(str, self._buckets_s), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True)), self._sum_s

    def totals(self) -> tuple[int, float]:
        """Return how many values there were, and their sum in seconds."""
        return sum(self._counts), self._sum_s

    def collect(self) -> Iterator[Metric]:
        """Return the histogram as the library's."""
        buckets, sum_s = self.read()
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=sum_s)


class LatencyByLabel(Collector):
    """Histograms for the hot path, one for each value of a label. Values of the label must be few."""

    def __init__(
        self, name: str, documentation: str, label: str, buckets_s: Sequence[float] = LATENCY_BUCKETS_S
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._buckets_s = buckets_s
        self._histograms: dict[str, LatencyHistogram] = {}

    def observe(self, value: str, seconds: float) -> None:
        """Count seconds under a value of the label."""
        self.under(value).observe(seconds)

    def under(self, value: str) -> LatencyHistogram:
        """Return the histogram of a value of the label."""
        histogram = self._histograms.get(value)
        if histogram is None:
            histogram = LatencyHistogram(self._name, self._documentation, self._buckets_s)
            self._histograms[value] = histogram
        return histogram

    def totals(self) -> tuple[int, float]:
        """Return how many values there were under all labels, and their sum in seconds."""
        found = [histogram.totals() for histogram in list(self._histograms.values())]
        return sum(count for count, _ in found), sum(sum_s for _, sum_s in found)

    def collect(self) -> Iterator[Metric]:
        """Return the histograms as one of the library's."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, histogram in list(self._histograms.items()):  # /metrics is served by another thread
            buckets, sum_s = histogram.read()
            family.add_metric([value], buckets, sum_s)
        yield family


class Tally(Collector):
    """A counter for the hot path. `counts`, by the labels' values, may be added to directly."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], known: Iterable[tuple[str, ...]] = ()
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self.counts = dict.fromkeys(known, 0)

    def add(self, *values: str, count: int = 1) -> None:
        """Count so many under values of the labels."""
        self.counts[values] = self.counts.get(values, 0) + count

    def total(self) -> float:
        """Return what all come to."""
        return sum(self.counts.values())

    def collect(self) -> Iterator[Metric]:
        """Return the counts as the library's counter."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in list(self.counts.items()):  # as above
            family.add_metric(values, count)
        yield family


class Sizes(Collector):
    """A gauge of how much is in each of several places. `places`, by the label's value, are looked at."""

    def __init__(self, name: str, documentation: str, label: str) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self.places: dict[str, Sized] = {}

    def largest(self) -> int:
        """Return how much is in the place that has most; 0 without any."""
        return max(map(len, self.places.values()), default=0)

    def collect(self) -> Iterator[Metric]:
        """Return the sizes as the library's gauge."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, place in list(self.places.items()):  # as above
            family.add_metric([value], len(place))
        yield family
