"""Writes deploy/kubernetes/rules.yaml, a PrometheusRule, from deploy/prometheus/rules/, or checks it."""

import sys
from pathlib import Path
from textwrap import indent

from made_files import write_or_check

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus/rules"
TARGET = DEPLOY / "kubernetes/rules.yaml"
_HEAD = """\
# Written by scripts/render_prometheus_rule.py (make docs) from deploy/prometheus/rules/: change them there. A
# Prometheus that selects rules by a label of its own, such as `release`, needs that label here.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: { name: postorder, labels: { app.kubernetes.io/part-of: postorder } }
spec:
  groups:
"""


def render() -> str:
    """Return the object: the groups of every file, word for word."""
    return _HEAD + "".join(indent(_groups(path), "  ") for path in sorted(RULES.glob("*.yml")))


def _groups(path: Path) -> str:
    """Return what a file has under `groups`. Raises ValueError for a file that has anything else."""
    head, mark, groups = path.read_text(encoding="utf-8").partition("\ngroups:\n")
    if not mark or any(line and not line.startswith("#") for line in head.splitlines()):
        raise ValueError(f"{path}: must be comments, then `groups:`")
    return groups


if __name__ == "__main__":
    sys.exit(write_or_check({TARGET: render()}))
