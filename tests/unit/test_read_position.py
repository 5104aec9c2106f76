"""What a replica must prove, and tokens as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reading.consistency import Token, token_of
from pipeline.reading.position import Need, Position, settled, shortfall, shown_by, shows

LATEST = Need(latest=True)


def replica(**changes: int | bool | None) -> Position:
    values = {
        "in_recovery": True,
        "timeline": 3,
        "lsn": 100,
        "received": 100,
        "announced": 100,
        "streams": True,
    }
    return Position(**{**values, **changes})


def lacks(position: Position, need: Need) -> str:
    """What it lacks at its first look at itself."""
    return shortfall(position, settled(position, need))


def test_a_replica_that_shows_all_it_has_received_may_answer() -> None:
    assert lacks(replica(), LATEST) == ""


@pytest.mark.parametrize(
    ("position", "need", "why"),
    [
        (replica(lsn=99), LATEST, "1 bytes of WAL behind"),
        (replica(announced=1_100), LATEST, "1,000 bytes of WAL behind"),
        (replica(received=None), LATEST, "cannot tell"),
        (replica(streams=False), LATEST, "does not stream"),
        (replica(streams=False, received=None), Need(latest=True, alone=True), "cannot tell"),
        (replica(streams=False, lsn=99), Need(latest=True, alone=True), "behind"),
        (replica(), Need(latest=True, timeline=4), "timeline 3, and 4 was seen"),
        (replica(), Need(latest=False, lsn=101), "1 bytes of WAL behind"),
        (replica(), Need(latest=True, lsn=101), "1 bytes of WAL behind"),
    ],
)
def test_one_that_cannot_prove_it_may_not(position: Position, need: Need, why: str) -> None:
    assert why in lacks(position, need)


def test_a_token_asks_for_no_more_than_it_stands_for() -> None:
    assert lacks(replica(received=5_000, announced=5_000), Need(latest=False, lsn=100)) == ""


def test_without_its_primary_a_replica_may_answer_from_what_it_has() -> None:
    away = replica(streams=False, timeline=0, announced=None)
    assert lacks(away, Need(latest=True, timeline=3, alone=True)) == ""


def test_what_a_primary_took_along_is_not_waited_for() -> None:
    # For a moment the replica still tells what the primary that was killed announced, and never sent.
    bereft = replica(streams=False, announced=220)
    assert lacks(bereft, Need(latest=True, alone=True)) == ""
    assert "120 bytes" in lacks(replica(announced=220), LATEST)


def test_half_a_record_that_a_primary_left_behind_is_not_waited_for() -> None:
    rest = {"streams": False, "lsn": 90, "received": 100}
    alone = Need(latest=True, alone=True)
    assert "10 bytes" in lacks(replica(**rest), alone)
    assert lacks(replica(**rest, exhausted=True), alone) == ""
    assert "it does not stream" in lacks(replica(**rest, exhausted=True), LATEST)
    assert "5 bytes" in lacks(replica(**rest, exhausted=True), Need(latest=True, lsn=95, alone=True))


def test_what_comes_in_while_a_replica_catches_up_is_not_waited_for() -> None:
    need = settled(replica(lsn=90), LATEST)
    assert "10 bytes" in shortfall(replica(lsn=90), need)
    busy = replica(lsn=100, received=7_000, announced=9_000)
    assert shortfall(busy, settled(busy, need)) == ""


@pytest.mark.parametrize(
    ("snapshot", "seen", "shown"),
    [
        ("100:105:101,103", (), True),
        ("100:105:101,103", (99, 100, 102, 104), True),
        ("100:105:101,103", (103,), False),
        ("100:105:", (105,), False),
        ("100:105:", (2**32 - 5,), True),  # from before the numbers came round
        (f"{2**32 + 100}:{2**32 + 105}:{2**32 + 101}", (101,), False),
        (f"{2**32 + 100}:{2**32 + 105}:{2**32 + 101}", (102,), True),
    ],
)
def test_a_primary_shows_what_a_replica_showed_unless_that_still_runs(
    snapshot: str,
    seen: tuple[int, ...],
    shown: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    assert shows(snapshot, seen) is shown


def test_a_row_frozen_long_ago_is_not_taken_for_one_of_the_future() -> None:
    assert shown_by("100:105:", [104, 99, 2**31 + 200]) == (99, 104, 2**31 + 200)
    assert shown_by("100:105:", [106, 2**31 - 5]) == ()


tokens = st.builds(
    Token,
    shard=st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True),
    timeline=st.integers(0, 2**31),
    lsn=st.integers(0, 2**63),
    seen=st.lists(st.integers(0, 2**32 - 1), max_size=4).map(tuple),
)


@given(tokens)
def test_a_token_survives_being_printed(token: Token) -> None:
    assert Token.parse(str(token)) == token


@pytest.mark.parametrize(
    "text", ["", "shard0", "shard0:1:GG:", "shard0:x:1:", ":1:1:", "shard0:1:1:zz", "a:b:c:d:e"]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Token.parse(text)


def test_of_several_tokens_the_latest_counts_and_nothing_seen_is_lost() -> None:
    mine = [Token("a", 1, 900, (7,)), Token("a", 2, 500, (5,)), Token("a", 2, 400)]
    assert token_of("a", [*mine, Token("b", 9, 9)]) == Token("a", 2, 500, (5, 7))
    assert token_of("c", mine) is None
