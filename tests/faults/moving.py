"""`postorder` that ends, or falls asleep, at a named step of a move of slots; or writes without the fence.

python tests/faults/moving.py POINT:NTH:SIGNAL shards move ...

The points wrap the real functions from outside, so the shipped code has no seams for tests.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from consumers.cli import main
from pipeline.storage import writer
from pipeline.storage.move_table import MoveStep, MoveTable
from pipeline.storage.writer import IntakeWriter


class Fuse:
    """Sends this process a signal at the n-th time a point is passed."""

    def __init__(self, nth: int, number: signal.Signals) -> None:
        self._left = nth
        self._number = number

    def pass_point(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)


def around(owner: Any, name: str, before: Fuse | None, after: Fuse | None) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    async def wrapped(*arguments: Any, **options: Any) -> Any:
        if before:
            before.pass_point()
        found = await original(*arguments, **options)
        if after:
            after.pass_point()
        return found

    setattr(owner, name, wrapped)


POINTS: dict[str, Callable[[Fuse], None]] = {
    "registered": lambda fuse: around(MoveTable, "register", None, fuse),
    "taken_over": lambda fuse: around(MoveTable, "take_over", None, fuse),
    "before_commit": lambda fuse: around(MoveStep, "commit", fuse, None),
    "after_commit": lambda fuse: around(MoveStep, "commit", None, fuse),
    "before_write": lambda fuse: around(IntakeWriter, "write", fuse, None),
}


def without_fence() -> None:
    """Take the guard out: nobody proves to a shard that it owns what is written to it."""

    async def trust(*_arguments: object) -> None:
        pass

    writer.prove_ownership = trust


if __name__ == "__main__":
    point, nth, number, *guard = sys.argv[1].split(":")
    POINTS[point](Fuse(int(nth), signal.Signals[number]))
    if guard == ["unguarded"]:
        without_fence()
    sys.argv = ["postorder", *sys.argv[2:]]
    main()
