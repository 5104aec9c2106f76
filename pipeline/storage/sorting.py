"""A batch sorted into what to write: new events, duplicates, conflicts, quarantined deliveries."""

from collections import Counter
from collections.abc import Sequence

from pipeline.events import Reason
from pipeline.storage.rows import (
    AnyRow,
    AsQuarantined,
    BatchCounts,
    CustomerRow,
    EventRow,
    OrderRow,
    QuarantineRow,
)

_Key = tuple[int, bytes]

_CONFLICT_DETAIL = "an event with this source and id, but other data, was stored before"


class Sorting:
    """The events of a batch, sorted into what to write. First of an identity wins, also within a batch.

    Events are kept by slot and event key, as the inbox keeps them. `_places` holds each one's place in the
    batch.
    """

    def __init__(self, rows: Sequence[AnyRow], as_quarantined: AsQuarantined) -> None:
        self._as_quarantined = as_quarantined
        self._events: dict[_Key, EventRow] = {}
        self.quarantined: dict[bytes, tuple[QuarantineRow, int]] = {}
        self.duplicates = 0
        self._places: dict[_Key, int] = {}
        # Further ones of an identity: what they are depends on what is stored, which is not known yet.
        self._followers: list[tuple[_Key, int, bytes]] = []
        self._stored: dict[_Key, bytes] = {}
        for place, row in enumerate(rows):
            if isinstance(row, QuarantineRow):
                self._quarantine(row)
            else:
                self._take(row, place)

    def _take(self, row: EventRow, place: int) -> None:
        key = (row.slot, row.event_key)
        known = self._events.setdefault(key, row)
        if known is row:
            self._places[key] = place
        else:
            self._followers.append((key, place, row.payload_hash))

    def settle_known(self, key: _Key, payload_hash: bytes) -> None:
        """Take out an event whose identity was stored before: a duplicate or, with other data, a conflict."""
        row = self._events.pop(key, None)
        if row is not None:
            self._stored[key] = payload_hash
            self._settle(self._places[key], row.payload_hash == payload_hash)

    def settle_followers(self) -> None:
        """Settle the further events of an identity, against what is stored or about to be. Call once."""
        for key, place, payload_hash in self._followers:
            first = self._events.get(key)
            self._settle(place, payload_hash == (first.payload_hash if first else self._stored[key]))

    def _settle(self, place: int, same: bool) -> None:  # noqa: FBT001  # the one question asked
        if same:
            self.duplicates += 1
        else:
            self._quarantine(self._as_quarantined(place, Reason.IDENTITY_CONFLICT, _CONFLICT_DETAIL))

    def _quarantine(self, row: QuarantineRow) -> None:
        """Add a delivery to the quarantined; the same one again only counts."""
        _, seen = self.quarantined.get(row.quarantine_id, (row, 0))
        self.quarantined[row.quarantine_id] = (row, seen + 1)

    def new_events(self) -> list[EventRow]:
        """Return the events left, in the order in which every transaction writes."""
        return sorted(self._events.values(), key=_key_order)

    def counts(self) -> BatchCounts:
        """Return the sums. Call after the events already known and the followers were settled."""
        quarantined = sum(seen for _, seen in self.quarantined.values())
        kinds = Counter(map(type, self._events.values()))
        orders, customers = kinds[OrderRow], kinds[CustomerRow]
        invoices = len(self._events) - orders - customers
        return BatchCounts(orders, invoices, customers, self.duplicates, quarantined)


def _key_order(row: EventRow) -> bytes:
    return row.event_key
