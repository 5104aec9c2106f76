"""The shipped commands, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def postorder(
    *arguments: str, cwd: Path = ROOT, text: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTORDER_")}
    return subprocess.run(
        [sys.executable, "-m", "consumers", *arguments],
        cwd=cwd,
        env={**clean, **variables},
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
