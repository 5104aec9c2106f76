"""Order histories to replay: that of CDNOW, or a file of moments."""

import random
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from loadtest.cdnow import fetch_history, read_purchases
from loadtest.scenarios.scenario import LoadTestError

_DAY_S = 86_400.0


def cdnow_history(cache: Path, limit: int | None) -> list[datetime]:
    """Return when CDNOW's orders came, the earliest `limit` of them. Raises HistoryError.

    The file has days. Within its day an order has a moment by chance, always the same one.
    """
    chance = random.Random(1997)
    days = sorted(purchase.day for purchase in read_purchases(fetch_history(cache), None))
    moments = sorted(_moment(day, chance) for day in days)
    return moments[:limit]


def _moment(day: date, chance: random.Random) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(seconds=chance.random() * _DAY_S)


def history_of_file(path: Path) -> list[datetime]:
    """Return the moments of a file: one in ISO 8601 on each line, what follows a comma ignored.

    Raises LoadTestError, naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise LoadTestError(f"{path}: cannot be read: {why}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.partition(",")[0].strip()
        if not text:
            continue
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            if number == 1:
                continue  # a heading
            raise LoadTestError(f"{path}:{number}: not a time in ISO 8601: 2026-11-21T10:15:00Z") from None
        found.append(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return found
