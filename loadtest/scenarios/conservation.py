"""Whether it adds up: published against stored, owed against settled, and nothing sent twice."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from pipeline.storage.accounting import Accounting


class Published(NamedTuple):
    """What the generator sent, by kind, and how many of all the broker did not confirm."""

    orders: int
    invoices: int
    duplicates: int
    bad: int
    unconfirmed: int

    @property
    def events(self) -> int:
        """All of them."""
        return self.orders + self.invoices + self.duplicates + self.bad


class Conservation(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of one run: what the tables gained while it went on.

    `redelivered`: deliveries that came again after their commit, and were found to be known.
    `missing`: events that were confirmed and are nowhere. `orders_off`: orders of the run in the tables, less
    those published; above 0 a row is on two shards. `sent_twice`: messages that a stand-in got twice.
    `unaccepted`: messages owed for the run's orders that no stand-in took; None: there is none to ask. Among
    them may be those of `unknown` outcome: the ledger knows of them, and asks.
    """

    published: int
    unconfirmed: int
    stored: int
    duplicates: int
    quarantined: int
    redelivered: int
    missing: int
    events_difference: int
    owed: int
    settled: int
    open: int
    effects_difference: int
    orders_off: int
    unknown: int
    sent_twice: int | None
    unaccepted: int | None

    def problems(self) -> list[str]:
        """Return what does not add up, for people; nothing: all does."""
        return [text for is_wrong, text in self._checks() if is_wrong]

    def _checks(self) -> list[tuple[bool, str]]:
        # What the broker did not confirm may have arrived all the same.
        lost = (self.unaccepted or 0) - self.unknown
        off = self.orders_off > 0 or self.orders_off < -self.unconfirmed
        return [
            (self.missing > self.unconfirmed, f"{self.missing} published events are nowhere"),
            (self.missing < 0, f"{-self.missing} more events are stored than were published"),
            (
                self.redelivered < -self.unconfirmed,
                f"{-self.redelivered} duplicates or bad events are not counted",
            ),
            (off, f"{self.orders_off:+} orders in the tables, seen from what was published"),
            (self.events_difference != 0, f"the events' sums differ by {self.events_difference}"),
            (self.effects_difference != 0, f"the messages' sums differ by {self.effects_difference}"),
            (self.open != 0, f"{self.open} messages are still open"),
            (bool(self.sent_twice), f"{self.sent_twice} messages were sent twice"),
            (lost > 0, f"{lost} messages were accepted by nobody, and are not known as unknown"),
        ]


def conservation_of(
    published: Published,
    before: Accounting,
    after: Accounting,
    *,
    orders_in_tables: int,
    sends: bool,
    unknown: int,
    sent_twice: Mapping[str, int] | None,
    unaccepted: int | None,
) -> Conservation:
    """Return the sums of a run. `sends`: whether messages go out; if not, they stay open."""
    stored = after.stored - before.stored
    duplicates = after.duplicates - before.duplicates
    quarantined = after.quarantined - before.quarantined
    again = duplicates + quarantined - published.duplicates - published.bad
    # A lost order's duplicate is stored in its place, so sums tell what is missing, not kinds.
    known = min(duplicates + quarantined, published.duplicates + published.bad)
    return Conservation(
        published=published.events,
        unconfirmed=published.unconfirmed,
        stored=stored,
        duplicates=duplicates,
        quarantined=quarantined,
        redelivered=again,
        missing=published.events - stored - known,
        events_difference=after.events_difference - before.events_difference,
        owed=after.owed - before.owed,
        settled=after.settled - before.settled,
        open=after.open if sends else 0,
        effects_difference=after.effects_difference - before.effects_difference,
        orders_off=orders_in_tables - published.orders,
        unknown=unknown,
        sent_twice=sum(sent_twice.values()) if sent_twice is not None else None,
        unaccepted=unaccepted,
    )
