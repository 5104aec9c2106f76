"""What each component could do if it alone were the limit, by the CPU it used: the utilisation law."""

import os
from collections import defaultdict
from collections.abc import Collection
from operator import itemgetter

import msgspec

from loadtest.scenarios.figures import PhaseFigures, gained_per_s
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import Part

OBSERVERS = ("generator", "observer")
_NOISE_CORES = 0.001


class ComponentLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A component with all the cores it can use for itself, at the mix of work of this run.

    `cores_max`: what it can use; None: as many as there are. Per order: stored, or sent for (an SMS each, and
    where there are none, a mail each). The rest is with all its cores; 0: none of these were done.
    """

    component: str
    cpu_us_per_order: float
    orders_per_s_per_core: float
    cores_max: int | None
    events_per_s: float = 0.0
    orders_per_min: float = 0.0
    invoices_per_min: float = 0.0
    sms_per_min: float = 0.0
    mails_per_min: float = 0.0


AT_LIMIT = ("events/s", "orders/min", "invoices/min", "SMS/min", "mails/min")
"""What `at_limit` returns."""


def at_limit(limit: ComponentLimit) -> tuple[float, ...]:
    """Return what a component could do, in the four KPIs and in events."""
    return (
        limit.events_per_s,
        limit.orders_per_min,
        limit.invoices_per_min,
        limit.sms_per_min,
        limit.mails_per_min,
    )


def component_limits(
    phase: PhaseFigures, samples: list[Sample], *, cpus: int | None = None, many: Collection[Part] = ()
) -> list[ComponentLimit]:
    """Return the limit of each component by its CPU in a phase, the lowest first.

    `many`: parts of more than one process.
    """
    counts = ("committed", "orders", "invoices", "sms", "mails")
    rates = {count: gained_per_s(samples, phase.begin_s, phase.end_s, count) for count in counts}
    # Not by mails while there is anything else: an order whose invoice comes late has two.
    per_s = max(rates["orders"], rates["sms"]) or rates["mails"]
    if not per_s:
        return []
    found: list[tuple[float, ComponentLimit]] = []
    for name, cores in _by_component(phase).items():
        is_single = name in set(Part) - set(many)
        usable = 1 if is_single else cpus or os.cpu_count() or 1
        times = usable / cores
        limit = ComponentLimit(
            component=name,
            cpu_us_per_order=round(cores / per_s * 1e6, 1),
            orders_per_s_per_core=round(per_s / cores),
            cores_max=1 if is_single else None,
            events_per_s=round(rates["committed"] * times),
            orders_per_min=round(rates["orders"] * times * 60),
            invoices_per_min=round(rates["invoices"] * times * 60),
            sms_per_min=round(rates["sms"] * times * 60),
            mails_per_min=round(rates["mails"] * times * 60),
        )
        found.append((times, limit))
    return [limit for _, limit in sorted(found, key=itemgetter(0))]


def _by_component(phase: PhaseFigures) -> dict[str, float]:
    grouped: defaultdict[str, float] = defaultdict(float)
    for name, cores in phase.cores.items():
        if name not in OBSERVERS:
            grouped[_group(name)] += cores
    return {name: cores for name, cores in grouped.items() if cores > _NOISE_CORES}


def _group(name: str) -> str:
    for ending, group in (("-primary", "primaries"), ("-replica", "replicas")):
        if name.endswith(ending):
            return group
    return name
