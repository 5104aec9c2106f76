"""The script that makes docs/reference/metrics.md, and the names that it knows."""

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))
render_metrics = import_module("render_metrics")


def metric_names() -> dict[str, str]:
    """Every metric of ours, with its type."""
    return {one.name: one.kind for one in render_metrics.described()}
