"""What the tests of deployment files share: where the files are, and published schemas, each read once."""

import json
import re
import subprocess
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
PROGRAMS = Path(sys.executable).parent


def read_yaml(text: str) -> list[Any]:
    """Every document of a text."""
    return list(yaml.load_all(text, yaml.CSafeLoader))


def compose() -> dict[str, Any]:
    return read_yaml(COMPOSE.read_text(encoding="utf-8"))[0]


def run_program(*command: object, timeout_s: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its status is for the test to look at."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False, **options)


def environment_file(path: Path) -> dict[str, str]:
    """The variables of a file that systemd reads."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def seconds(text: str) -> int:
    """A time as Compose and systemd write it."""
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def grace_needed_s(drain_timeout_s: float) -> float:
    """How long a process, or a supervisor with workers, may take from SIGTERM to its end; and 5 s more."""
    from consumers.allocator.run import KILL_AFTER_S  # noqa: PLC0415  # half a second, for few tests

    return drain_timeout_s + KILL_AFTER_S + 5


@cache
def vendored(name: str) -> Validator:
    """A schema that check-jsonschema brings."""
    path = files("check_jsonschema") / "builtin_schemas" / "vendor" / f"{name}.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    return validator_for(schema)(schema)


def violations(document: Any, validator: Validator) -> list[str]:
    """What is wrong with a document, one line each."""
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in validator.iter_errors(document)
    ]
