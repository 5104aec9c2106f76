"""The few metrics that an allocator goes by, read out of a process's own registry."""

from typing import Final

from pipeline.observability.metrics import Metrics

NAMES: Final = (
    "postorder_events_total",
    "postorder_buffered_events",
    "postorder_open_deliveries",
    "postorder_prefetch_deliveries",
    "postorder_batch_events_sum",
    "postorder_batch_events_count",
    "postorder_pool_waiting",
    "postorder_slot_limit",
    "postorder_slot_in_flight",
    "postorder_slot_circuit",
    "postorder_held_back_total",
)


def read(metrics: Metrics) -> dict[str, float]:
    """Return the readings: by name, without the prefix, and the values of labels: `slot_limit{twilio}`.

    The event loop waits for it, once a second: so of what there is for each shard only what all come to, and
    of the lanes the fullest.
    """
    count, sum_s = metrics.write_seconds.totals()
    found: dict[str, float] = {
        "write_seconds_count{}": count,
        "write_seconds_sum{}": sum_s,
        "parked_total{}": metrics.parked.total(),
        "lane_events{}": metrics.lane_events.largest(),
    }
    for metric in metrics.registry.restricted_registry(NAMES).collect():
        for sample in metric.samples:
            labels = ",".join(sample.labels[name] for name in sorted(sample.labels))
            found[f"{sample.name.removeprefix('postorder_')}{{{labels}}}"] = sample.value
    return found


def total(readings: dict[str, float], name: str) -> float:
    """Return the sum of a reading over all its labels; 0 when there is none."""
    return sum(value for key, value in readings.items() if key.partition("{")[0] == name)


def labelled(readings: dict[str, float], name: str) -> dict[str, float]:
    """Return a reading's values by the values of its labels, joined by commas in the order of their names."""
    found = {}
    for key, value in readings.items():
        metric, _, labels = key.removesuffix("}").partition("{")
        if metric == name:
            found[labels] = value
    return found
