"""The dashboards as they are committed, and their queries as Grafana would send them."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from metric_page import ROOT

FOLDER = ROOT / "deploy/grafana"
FILES = sorted((FOLDER / "dashboards").glob("*.json"))
# What Grafana puts in place of its variables where `All` is chosen.
_CHOSEN = {"namespace": ".*", "shard": ".*", "channel": ".*", "slot": ".*", "instance": ".*"}


class Asked(NamedTuple):
    """A panel's query."""

    board: str
    panel: str
    expr: str
    is_instant: bool

    @property
    def name(self) -> str:
        return f"{self.board}/{self.panel}"


def boards() -> dict[str, dict[str, Any]]:
    """Return the dashboards by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, but for headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Asked]:
    """Yield every query of every panel, with its variables as they are in the board."""
    for name, board in boards().items():
        for panel in panels(board):
            for target in panel.get("targets", ()):
                yield Asked(name, panel["title"], target["expr"], target["instant"])


def interpolated(expr: str, *, interval: str = "1m") -> str:
    """Return an expression as Grafana sends it with nothing chosen. Raises KeyError for another variable."""
    values = {**_CHOSEN, "__rate_interval": interval}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expr)
