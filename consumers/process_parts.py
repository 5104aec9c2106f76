"""What a process says of itself, out of its parts: filled in by those who put the flows together."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from consumers.amqp import QueueConsumer
from consumers.knobs import Knobs
from pipeline.ingest.pressure import Pressure
from pipeline.observability.metrics import Metrics
from pipeline.settings import Settings
from pipeline.storage.control import IntakeReport

Parts = dict[str, Callable[[], Any]]


class ProcessParts(msgspec.Struct):
    """`fields`: what fills which field of the report. `extra`: what goes below its `extra`."""

    fields: Parts = {}
    extra: Parts = {}


def metric_counts(metrics: Metrics) -> Callable[[], Mapping[str, float]]:
    """Return a function that returns the counters whose rates are reported, by the rates' names.

    A name is the counter's and the values of its labels: `events.order`, `receipts.sms.accepted`.
    """
    counters = {
        "events": metrics.events,
        "batches": metrics.batches,
        "parked": metrics.parked,
        "claims": metrics.claims,
        "receipts": metrics.receipts,
    }

    def counts() -> dict[str, float]:
        found: dict[str, float] = {}
        for name, counter in counters.items():
            for family in counter.collect():
                for sample in family.samples:
                    if sample.name.endswith("_total"):
                        key = ".".join([name, *sample.labels.values()])
                        found[key] = sample.value
        return found

    return counts


def intake_part(
    settings: Settings,
    pressure: Pressure,
    waiting: Callable[[], dict[str, int]],
    consumers: Iterable[QueueConsumer],
    knobs: Knobs,
) -> Callable[[], IntakeReport]:
    """Return a function that says how flow one stands."""
    read = tuple(consumers)

    def report() -> IntakeReport:
        return IntakeReport(
            prefetch=knobs.prefetch,
            batch_max=knobs.batch_max,
            held=pressure.held,
            held_max=settings.intake.buffer_events_max,
            paused=pressure.paused,
            lanes=waiting(),
            consumers={consumer.queue: consumer.consuming for consumer in read},
        )

    return report
