"""Measure what starting a command costs: CPU (user and system) of ten starts each, the median.

`python scripts/measure_start.py`. Byte code is compiled beforehand, as `make setup` does.
"""

import compileall
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STARTS = 10
STARTED = (
    ("-c", "pass"),
    ("-c", "import typer"),
    ("-m", "consumers", "--help"),
    ("-m", "consumers", "run", "--help"),
    ("-m", "consumers", "status", "--help"),
    ("-m", "consumers", "stack", "--help"),
    ("-c", "import consumers.bootstrap"),
    ("-c", "import consumers.bootstrap, consumers.notifications"),
)


def cpu_s(arguments: tuple[str, ...]) -> float:
    """Return the CPU of one start, in s: of its process and of what that waited for."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Print a line for each."""
    for package in ("consumers", "loadtest", "pipeline", "stack"):
        compileall.compile_dir(ROOT / package, quiet=1)
    for arguments in STARTED:
        median = statistics.median(cpu_s(arguments) for _ in range(STARTS))
        print(f"{median:6.2f} s  python {' '.join(arguments)}")


if __name__ == "__main__":
    main()
