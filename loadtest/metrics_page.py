"""Percentiles out of a Prometheus histogram, read from a process's /metrics."""

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import PostorderError

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class MetricsPageError(PostorderError):
    """A /metrics page cannot be read."""


class MetricsPage:
    """The metrics of one process at a URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def read(self, session: aiohttp.ClientSession) -> list[tuple[float, float]]:
        """Return the histogram publish → committed: upper bound in seconds, and events up to it."""
        try:
            async with session.get(self._url, timeout=_TIMEOUT) as answer:
                text = await answer.text()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise MetricsPageError(f"{self._url} does not answer: {type(error).__name__}") from error
        return [
            (float(sample.labels["le"]), sample.value)
            for family in text_string_to_metric_families(text)
            if family.name == "postorder_publish_to_committed_seconds"
            for sample in family.samples
            if sample.name.endswith("_bucket")
        ]


def since_then(
    earlier: list[tuple[float, float]], now: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Return what a cumulative histogram gained between two readings."""
    before = dict(earlier)
    return [(bound, count - before.get(bound, 0.0)) for bound, count in now]


def percentile_of_buckets(buckets: list[tuple[float, float]], share: float) -> float | None:
    """Return a percentile in seconds, even within its bucket; None without data.

    Buckets are 30 % apart, so the answer is right to about 15 %.
    """
    if not buckets or not buckets[-1][1]:
        return None
    rank = share * buckets[-1][1]
    lower_bound, lower_count = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == float("inf"):
                return lower_bound
            return lower_bound + (bound - lower_bound) * (rank - lower_count) / (count - lower_count)
        lower_bound, lower_count = bound, count
    return None
