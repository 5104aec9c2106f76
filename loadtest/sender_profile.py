"""Where a sender spends its time: samples of py-spy (none of our packages), by function and by part."""

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

_RATE = 400
_END_S = 20.0
# The innermost frame of one of these decides the part, so that a driver's work is its caller's own.
_PARTS = {
    "pipeline/notifications/rules": "rules",
    "pipeline/storage/recipients": "rules",
    "pipeline/notifications/sms": "composing",
    "pipeline/notifications/mail": "composing",
    "pipeline/notifications/composer": "composing",
    "pipeline/notifications/contacts": "composing",
    "pipeline/notifications/templates": "composing",
    "pipeline/notifications/mime": "composing",
    "pipeline/notifications/callbacks": "composing",
    "pipeline/notifications/providers": "provider",
    "pipeline/notifications/receipts": "receipts",
    "pipeline/notifications/pools": "pool",
    "pipeline/notifications/dispatcher": "pool",
    "pipeline/notifications/relay": "claims",
    "pipeline/storage/outbox": "claims and receipts",
    "pipeline/storage": "storage, other",
    "aiosmtplib": "provider",
    "twilio": "provider",
    "aiohttp": "provider",
    "asyncpg": "driver",
    "pipeline": "pipeline, other",
}


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the samples in which the process was busy, by function (its own time) and by part."""

    samples: int
    functions: dict[str, float]
    parts: dict[str, float]


@contextmanager
def sampling(py_spy: Path, pid: int, file: Path) -> Iterator[None]:
    """Sample a process inside the block; the stacks are in `file` after it."""
    command = [str(py_spy), "record", "--pid", str(pid), "--rate", str(_RATE), "--duration", "3600"]
    spy = subprocess.Popen(
        [*command, "--format", "raw", "--output", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        spy.send_signal(signal.SIGINT)
        spy.wait(_END_S)


def read_profile(file: Path, functions_max: int = 15) -> Profile:
    """Read py-spy's stacks: a line of frames, outermost first, and how often it was seen."""
    functions: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        stack, _, times = line.rpartition(" ")
        frames = stack.split(";")
        functions[_without_line(frames[-1])] += int(times)
        parts[_part(frames)] += int(times)
    total = functions.total()
    return Profile(
        samples=total,
        functions={name: round(n / total, 4) for name, n in functions.most_common(functions_max)},
        parts={name: round(n / total, 4) for name, n in parts.most_common()},
    )


def _without_line(frame: str) -> str:
    return frame.rpartition(":")[0] + ")" if ":" in frame else frame


def _part(frames: list[str]) -> str:
    for frame in reversed(frames):
        for place, part in _PARTS.items():
            if place in frame:
                return part
    return "event loop"
