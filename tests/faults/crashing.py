"""`postorder run` that kills itself, as SIGKILL does, at a named point of the write path.

python tests/faults/crashing.py POINT:NTH run ...

The points wrap the real functions from outside, so the shipped code has no seams for tests.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from consumers.cli import main
from consumers.lean.publisher import LeanPublisher
from consumers.lean.reader import LeanSession
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.lane_writer import LaneWriter
from pipeline.storage import writer
from pipeline.storage.writer import IntakeWriter


class Fuse:
    """Burns out at the n-th time a point is passed."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def pass_point(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, fuse: Fuse) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        fuse.pass_point()
        return original(*arguments, **options)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, fuse: Fuse) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    async def wrapped(*arguments: Any, **options: Any) -> Any:
        found = await original(*arguments, **options)
        fuse.pass_point()
        return found

    setattr(owner, name, wrapped)


def after_call(owner: Any, name: str, fuse: Fuse) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        found = original(*arguments, **options)
        fuse.pass_point()
        return found

    setattr(owner, name, wrapped)


def inside_transaction(fuse: Fuse) -> None:
    """After something was written, in small batches and in large ones."""
    after(writer, "_copy", fuse)
    after(IntakeWriter, "_store_few", fuse)


POINTS: dict[str, Callable[[Fuse], None]] = {
    "before_decode": lambda fuse: before(Decoder, "mode", fuse),
    "before_write": lambda fuse: before(IntakeWriter, "write", fuse),
    "in_transaction": inside_transaction,
    "before_commit": lambda fuse: after(IntakeWriter, "_store", fuse),
    "after_commit": lambda fuse: after(IntakeWriter, "write", fuse),
    "before_ack": lambda fuse: before(LeanSession, "_acknowledge", fuse),
    "after_ack": lambda fuse: after_call(LeanSession, "_acknowledge", fuse),
    "parked_not_acked": lambda fuse: after(LeanPublisher, "settled", fuse),
    "in_isolation": lambda fuse: before(LaneWriter, "_isolate", fuse),
}


def without_barrier() -> None:
    """Take the guard out: a batch of nothing but duplicates writes nothing that its commit waits for."""
    statement = dict(writer.INTAKE)
    statement["record_intake_batch"] = "SELECT 1"
    writer.INTAKE = statement


if __name__ == "__main__":
    point, _, nth = sys.argv[1].partition(":")
    if point == "without_barrier":
        without_barrier()
    else:
        POINTS[point](Fuse(int(nth)))
    sys.argv = ["postorder", *sys.argv[2:]]
    main()
