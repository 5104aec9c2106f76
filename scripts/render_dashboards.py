"""Writes deploy/grafana/dashboards/*.json from scripts/dashboards/, or checks them."""

import json
import sys
from pathlib import Path

from dashboards.broker import broker
from dashboards.intake import intake
from dashboards.notifications import notifications
from dashboards.overview import overview
from dashboards.processes import processes
from dashboards.resharding import resharding
from dashboards.shards import shards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from made_files import write_or_check

TARGET = Path(__file__).parents[1] / "deploy/grafana/dashboards"
BOARDS = (overview, intake, shards, notifications, resharding, broker, processes)


def rendered() -> dict[str, str]:
    """Return the text of each dashboard's file, by its name."""
    return {f"{make.__name__}.json": text_of(make()) for make in BOARDS}


def text_of(board: Dashboard) -> str:
    """Return a dashboard as JSON."""
    return json.dumps(board, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(
        write_or_check(
            {TARGET / name: text for name, text in rendered().items()}, there=TARGET.glob("*.json")
        )
    )
