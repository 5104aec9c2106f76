"""The rules of deploy/prometheus/, and promtool."""

import subprocess
from pathlib import Path
from typing import Any

import yaml
from metric_page import ROOT
from real_prometheus import prometheus_program

FOLDER = ROOT / "deploy/prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
SUFFIXES = ("_bucket", "_sum", "_count")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it in the folder of the rules; the test is skipped where there is none."""
    program = prometheus_program("promtool")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=FOLDER)


def rules() -> list[dict[str, Any]]:
    """Return every rule, recording and alerting."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Return the alerts; some names are there twice, once for each severity."""
    return [rule for rule in rules() if "alert" in rule]
