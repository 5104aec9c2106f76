"""What a change of shards says of itself while it runs."""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from pipeline.storage.move_table import Move


class Phase(StrEnum):
    """What is being done to a move."""

    WAITING = "waiting for replicas"
    COPYING = "copying"
    WAY_BACK = "way back is open"
    FLIPPING = "flipping"
    BACK = "flipping back"
    CLEANING = "deleting moved rows"
    DONE = "done"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a move is. `done` of `total`: tables copied, or slots flipped; 0 of 0 where nobody knows.

    `stall_ms`: how long the slots flipped last took no writes.
    """

    move: Move
    phase: Phase
    done: int = 0
    total: int = 0
    stall_ms: float = 0.0
    detail: str = ""


Report = Callable[[Progress], None]


def nobody(_progress: Progress) -> None:
    """Report to nobody."""
