"""A batch sorted into what to write: first of an identity wins, whether it was stored before or not."""

from deliveries import delivery

from pipeline.ingest.entries import quarantine_row
from pipeline.storage.rows import InvoiceRow, QuarantineRow
from pipeline.storage.sorting import Sorting

STORED, OTHER = b"s" * 16, b"o" * 16
KEY = b"k" * 16


def row(payload_hash: bytes) -> InvoiceRow:
    fields = dict.fromkeys(InvoiceRow.__struct_fields__)
    return InvoiceRow(**{**fields, "slot": 7, "event_key": KEY, "payload_hash": payload_hash})


def as_quarantined(place: int, reason: str, detail: str) -> QuarantineRow:
    return quarantine_row(delivery(b"%d" % place), None, reason, detail, slot=7)


def test_the_first_of_a_batch_is_what_the_others_are_held_against() -> None:
    sorting = Sorting([row(STORED), row(OTHER), row(STORED)], as_quarantined)
    sorting.settle_followers()
    counts = sorting.counts()
    assert (counts.invoices, counts.duplicates, counts.quarantined) == (1, 1, 1)


def test_what_is_stored_counts_more_than_a_conflict_that_came_first() -> None:
    """A conflict with the stored event, and after it a true duplicate of that."""
    sorting = Sorting([row(OTHER), row(STORED), row(OTHER)], as_quarantined)
    sorting.settle_known((7, KEY), STORED)
    sorting.settle_followers()
    counts = sorting.counts()
    assert (counts.invoices, counts.duplicates, counts.quarantined) == (0, 1, 2)
    assert {found.body for found, _ in sorting.quarantined.values()} == {b"0", b"2"}
