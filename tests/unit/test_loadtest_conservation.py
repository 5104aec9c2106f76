"""The conservation check: whatever is lost, doubled or left open is found, also beside redeliveries."""

from typing import Any

import msgspec
import pytest

from loadtest.scenarios.conservation import Conservation, Published, conservation_of
from pipeline.storage.accounting import Accounting

PUBLISHED = Published(orders=100, invoices=50, duplicates=5, bad=2, unconfirmed=0)
NOTHING = Accounting(
    events=7,
    stored=7,
    duplicates=0,
    quarantined=0,
    events_difference=0,
    owed=9,
    settled=9,
    open=0,
    effects_difference=0,
)
ALL = Accounting(
    events=164,
    stored=157,
    duplicates=5,
    quarantined=2,
    events_difference=0,
    owed=259,
    settled=259,
    open=0,
    effects_difference=0,
)


def found(published: Published = PUBLISHED, orders: int = 100, **changes: Any) -> Conservation:
    options = {"sent_twice": {"sms": 0, "email": 0}, "unaccepted": 0, "unknown": 0, "sends": True}
    options |= {name: changes.pop(name) for name in list(changes) if name in options}
    after = msgspec.structs.replace(ALL, **changes)
    return conservation_of(published, NOTHING, after, orders_in_tables=orders, **options)


def test_a_whole_run_adds_up() -> None:
    sums = found()
    assert sums.problems() == []
    assert (sums.published, sums.stored, sums.duplicates, sums.quarantined) == (157, 150, 5, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stored": 156}, "1 published events are nowhere"),
        ({"stored": 156, "orders": 99}, "-1 orders"),
        # An order was lost, and its duplicate was stored in its place: no kind is short, the sum is.
        ({"duplicates": 4}, "are nowhere"),
        ({"quarantined": 1}, "are nowhere"),
        ({"stored": 158}, "more events are stored than were published"),
        ({"orders": 101}, "+1 orders"),
        ({"events_difference": 1}, "the events' sums differ by 1"),
        ({"effects_difference": -1}, "the messages' sums differ by -1"),
        ({"open": 3}, "3 messages are still open"),
        ({"sent_twice": {"sms": 1, "email": 1}}, "2 messages were sent twice"),
        ({"unaccepted": 4}, "4 messages were accepted by nobody"),
    ],
)
def test_whatever_is_wrong_is_said(changes: dict[str, Any], said: str) -> None:
    assert any(said in problem for problem in found(**changes).problems())


def test_redeliveries_are_no_fault_and_hide_none() -> None:
    again = found(duplicates=11)
    assert again.problems() == []
    assert again.redelivered == 6
    lost = found(duplicates=11, stored=155)
    assert any("2 published events are nowhere" in problem for problem in lost.problems())


def test_what_is_of_unknown_outcome_is_not_lost() -> None:
    assert found(unknown=4, unaccepted=4).problems() == []
    assert any(
        "1 messages were accepted by nobody" in text for text in found(unknown=3, unaccepted=4).problems()
    )


def test_what_was_not_confirmed_may_be_there_or_not() -> None:
    unsure = PUBLISHED._replace(unconfirmed=3)
    assert found(unsure).problems() == []
    assert found(unsure, stored=154, orders=97).problems() == []
    assert found(unsure, stored=153, orders=96).problems()
    assert found(unsure, duplicates=3).problems() == []
    assert found(unsure, duplicates=1).problems()


def test_what_is_not_sent_may_stay_open() -> None:
    assert found(open=200, settled=59, sends=False, sent_twice=None, unaccepted=None).problems() == []
