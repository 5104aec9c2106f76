"""A bounded store of numbered records: when it is full, the oldest makes room and is counted."""

from collections.abc import Iterator
from typing import Generic, TypeVar

RecordT = TypeVar("RecordT")


class RecordRing(Generic[RecordT]):
    """Records by number (1, 2, …), at most `records_max` of them; every step takes constant time."""

    def __init__(self, records_max: int) -> None:
        self.records_max = records_max
        self.clear()

    def clear(self, first: int = 1) -> None:
        """Forget everything; the next record gets the number `first`."""
        self._slots: list[RecordT] = []
        self._first = first
        self.next_number = first
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def oldest_number(self) -> int:
        """The lowest number still kept; `next_number` if there is none."""
        return self.next_number - len(self._slots)

    def slot(self, number: int) -> int:
        """Return the place of a number in this ring and in arrays kept alongside it."""
        return (number - self._first) % self.records_max

    def append(self, record: RecordT) -> RecordT | None:
        """Keep `record` as number `next_number`; return the record that had to go for it."""
        slot = self.slot(self.next_number)
        self.next_number += 1
        if slot == len(self._slots):
            self._slots.append(record)
            return None
        evicted = self._slots[slot]
        self._slots[slot] = record
        self.evictions += 1
        return evicted

    def get(self, number: int) -> RecordT | None:
        """Return the record, or None if it never was or was evicted."""
        if not self.oldest_number <= number < self.next_number:
            return None
        return self._slots[self.slot(number)]

    def upwards(self, number: int) -> Iterator[RecordT]:
        """Yield the records from `number` on, oldest first."""
        for each in range(max(number, self.oldest_number), self.next_number):
            yield self._slots[self.slot(each)]

    def downwards(self, number: int) -> Iterator[RecordT]:
        """Yield the records from `number` down, newest first."""
        for each in range(min(number, self.next_number - 1), self.oldest_number - 1, -1):
            yield self._slots[self.slot(each)]
