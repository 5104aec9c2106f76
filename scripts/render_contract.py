"""Writes the contract in docs/reference (JSON Schemas, asyncapi.yaml), or checks that it is up to date."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from contract_asyncapi import asyncapi
from contract_schemas import DATA, data_schema
from made_files import write_or_check

REFERENCE = Path(__file__).parents[1] / "docs/reference"
ASYNCAPI = REFERENCE / "asyncapi.yaml"


class _Dumper(yaml.SafeDumper):
    """Writes what is there twice out twice: an anchor helps no reader."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never refer back."""
        del data
        return True


def render() -> dict[Path, str]:
    """Return every file with its text."""
    files = {
        REFERENCE / f"schemas/{event_type}.schema.json": json.dumps(data_schema(event_type), indent=2) + "\n"
        for event_type in DATA
    }
    files[ASYNCAPI] = yaml.dump(asyncapi(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return files


if __name__ == "__main__":
    sys.exit(write_or_check(render()))
