"""Whose word about a person counts: what is known of a shard's changes decides."""

import pytest

from pipeline.storage.customers import parse_notice
from pipeline.storage.persons import _Heard


def test_a_replica_must_have_replayed_what_the_primary_had_written() -> None:
    heard = _Heard()
    assert heard.required([1]) is None
    heard.lsn = 7
    assert heard.required([1]) == 7


@pytest.mark.parametrize("place", ["unproven", "asking"])
def test_only_the_primary_may_speak_of_slots_that_have_just_changed(place: str) -> None:
    heard = _Heard()
    heard.lsn = 7
    setattr(heard, place, {2})
    assert heard.required([1, 3]) == 7
    assert heard.required([1, 2]) is None


@pytest.mark.parametrize(
    ("payload", "slots"),
    [
        ("7", {7}),
        ("0 7 4095", {0, 7, 4095}),
        ("all", None),
        ("", None),
        ("7 x", None),
        ("-1", None),
        ("4096", None),
    ],
)
def test_a_notice_names_slots_or_means_all(payload: str, slots: set[int] | None) -> None:
    assert parse_notice(payload) == slots
