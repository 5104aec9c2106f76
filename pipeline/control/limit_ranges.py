"""Which limits can be changed while everything runs, and between what bounds: those of the settings."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from pipeline.settings import SlotSettings

CONCURRENCY: Final = "concurrency"
RATE: Final = "rate_per_s"
RATE_LEAST: Final = 0.01
"""One message in 100 seconds: as good as none, without a division by zero."""
_RATE_MOST: Final = 1_000_000.0


class LimitRange(msgspec.Struct, frozen=True, kw_only=True):
    """A limit by its key, `slot.quantity`, and what it may be. `normal`: the settings'; 0: none there."""

    key: str
    slot: str
    unit: Literal["calls", "messages per second"]
    floor: float
    ceiling: float
    normal: float

    def applied(self, asked: float) -> float:
        """Return what is made of a value: the nearest within the bounds, whole where calls are counted."""
        within = min(max(asked, self.floor), self.ceiling)
        return float(int(within)) if self.unit == "calls" else within


def limit_ranges(sections: Mapping[str, SlotSettings]) -> dict[str, LimitRange]:
    """Return the limits of slots by key. `sections`: the settings of each slot, by its name."""
    ranges = [found for name, section in sections.items() for found in _of_slot(name, section)]
    return {found.key: found for found in ranges}


def _of_slot(name: str, section: SlotSettings) -> tuple[LimitRange, LimitRange]:
    rate = section.rate_per_s
    return (
        LimitRange(
            key=f"{name}.{CONCURRENCY}",
            slot=name,
            unit="calls",
            floor=min(section.concurrency_min, section.concurrency),
            ceiling=section.concurrency,
            normal=section.concurrency,
        ),
        LimitRange(
            key=f"{name}.{RATE}",
            slot=name,
            unit="messages per second",
            floor=min(RATE_LEAST, rate or RATE_LEAST),
            ceiling=rate or _RATE_MOST,
            normal=rate,
        ),
    )
