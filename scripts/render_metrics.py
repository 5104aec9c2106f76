"""Writes the tables of docs/reference/metrics.md from the metrics themselves, or checks them."""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import groupby
from pathlib import Path
from pkgutil import iter_modules

from made_files import write_or_check

import pipeline.observability
from pipeline.observability.metrics import Metrics
from pipeline.observability.registry import Described, MetricRegistry
from pipeline.observability.resharding_metrics import ReshardingMetrics
from pipeline.observability.work_metrics import WorkMetrics

TARGET = Path(__file__).parents[1] / "docs/reference/metrics.md"
MARK = "<!-- From here on: written by scripts/render_metrics.py from pipeline/observability/. -->"
LIBRARY = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
    "python_info",
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
    "python_gc_collections_total",
)
_HEAD = "| metric | type | labels | meaning |\n|---|---|---|---|"
_BEFORE = {
    "Supervisor and allocator": "Served by the supervisor of `postorder run --workers`. What the allocator "
    "goes by and decides there is only with `--workers auto`.\n\n",
    "While slots move": "Served by the command that moves them, `postorder shards add` for one, with "
    "`--metrics-port`.\n\n",
}
_AFTER = {
    "Process": "\n\nAnd those of the Prometheus client library: "
    + ", ".join(f"`{name}`" for name in LIBRARY)
    + "."
}


def described() -> list[Described]:
    """Return every metric there is, section by section in the order of the first of each."""
    metrics = Metrics()
    for kind in _others():
        kind(metrics.registry)
    found = [*metrics.registry.described, *ReshardingMetrics().registry.described]
    order = list(dict.fromkeys(one.section for one in found))
    return sorted(found, key=lambda one: order.index(one.section))


def _others() -> Iterator[Callable[[MetricRegistry], object]]:
    """Yield the metrics that not every process has, as they are made."""
    for module in iter_modules(pipeline.observability.__path__):
        if module.name.endswith("_metrics"):
            name = f"{pipeline.observability.__name__}.{module.name}"
            for kind in vars(import_module(name)).values():
                is_ours = isinstance(kind, type) and kind.__module__ == name
                if is_ours and kind not in Metrics.__mro__ and kind not in (WorkMetrics, ReshardingMetrics):
                    yield kind


def render(page: str) -> str:
    """Return the page with its tables made anew."""
    parts = [page.partition(MARK)[0] + MARK]
    for section, ones in groupby(described(), key=lambda one: one.section):
        rows = "\n".join(_row(one) for one in ones)
        parts.append(f"\n## {section}\n\n{_BEFORE.get(section, '')}{_HEAD}\n{rows}{_AFTER.get(section, '')}")
    return "\n".join(parts) + "\n"


def _row(one: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    return f"| `{one.name}` | {one.kind} | {labels} | {one.meaning} |".replace("|  |", "| |")


if __name__ == "__main__":
    sys.exit(write_or_check({TARGET: render(TARGET.read_text(encoding="utf-8"))}))
