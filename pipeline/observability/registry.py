"""The registry of a process's metrics. It knows what each is called, so that the docs can be made of it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from pipeline.observability.histograms import (
    LATENCY_BUCKETS_S,
    LatencyByLabel,
    LatencyHistogram,
    Sizes,
    Tally,
)


class Described(NamedTuple):
    """A metric as docs/reference/metrics.md shows it."""

    section: str
    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class MetricRegistry(CollectorRegistry):
    """Makes metrics and collects them. `described`: each that was made, in this order."""

    def __init__(self) -> None:
        super().__init__(auto_describe=True)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # half as many series again, for when each was made
        self.described: list[Described] = []
        self._section = ""

    def section(self, title: str) -> None:
        """Have what is made from here on belong to a section of the docs."""
        self._section = title

    def counter(
        self, name: str, meaning: str, *labels: str, known: Iterable[tuple[str, ...]] = ()
    ) -> Counter:
        """Make a counter; `_total` is added to its name. `known` values of its labels begin at 0.

        Prometheus sees no increase in what begins with its first event: alerts need the 0 before it.
        """
        self._describe(f"{name}_total", "counter", labels, meaning)
        counter = Counter(name, meaning, labels, registry=self)
        for values in known:
            counter.labels(*values)
        return counter

    def tally(self, name: str, meaning: str, *labels: str, known: Iterable[tuple[str, ...]] = ()) -> Tally:
        """Make a counter for the hot path; `known` values of its labels begin at 0."""
        self._describe(f"{name}_total", "counter", labels, meaning)
        tally = Tally(name, meaning, labels, known)
        self.register(tally)
        return tally

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        """Make a gauge."""
        self._describe(name, "gauge", labels, meaning)
        return Gauge(name, meaning, labels, registry=self)

    def sizes(self, name: str, meaning: str, label: str) -> Sizes:
        """Make a gauge of how much is in each of several places."""
        self._describe(name, "gauge", (label,), meaning)
        sizes = Sizes(name, meaning, label)
        self.register(sizes)
        return sizes

    def histogram(
        self, name: str, meaning: str, *labels: str, buckets: Sequence[float] = LATENCY_BUCKETS_S
    ) -> Histogram:
        """Make a histogram."""
        self._describe(name, "histogram", labels, meaning)
        return Histogram(name, meaning, labels, buckets=buckets, registry=self)

    def latency(self, name: str, meaning: str) -> LatencyHistogram:
        """Make a histogram of seconds for the hot path."""
        self._describe(name, "histogram", (), meaning)
        histogram = LatencyHistogram(name, meaning)
        self.register(histogram)
        return histogram

    def latency_by(
        self,
        label: str,
        name: str,
        meaning: str,
        buckets_s: Sequence[float] = LATENCY_BUCKETS_S,
        *,
        known: Iterable[str] = (),
    ) -> LatencyByLabel:
        """Make histograms of seconds for the hot path, one for each value of a label; `known` begin empty."""
        self._describe(name, "histogram", (label,), meaning)
        histograms = LatencyByLabel(name, meaning, label, buckets_s)
        for value in known:
            histograms.under(value)
        self.register(histograms)
        return histograms

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return everything as text, and its content type, in the format that an Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def _describe(self, name: str, kind: str, labels: tuple[str, ...], meaning: str) -> None:
        self.described.append(Described(self._section, name, kind, labels, meaning))
