"""What stands of a recipient: words of a person, of a mailbox and of an operator, in any order."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.standing import RecipientState, Said, Standing, after, first_reason

IN, OUT = RecipientState.IN, RecipientState.OUT
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)

STOP, START = Said(OUT, "stop"), Said(IN, "start")
BOUNCE, BLOCK, ALLOW = Said(OUT, "bounce:5.1.1"), Said(OUT, "operator"), Said(IN, "operator")


def stands_after(*words: Said) -> Standing | None:
    standing = None
    for second, word in enumerate(words):
        standing = after(standing, word, NOW + timedelta(seconds=second)) or standing
    return standing


@pytest.mark.parametrize(
    ("words", "state", "reason"),
    [
        ((STOP,), OUT, "stop"),
        ((STOP, START), IN, "start"),
        ((START, STOP), OUT, "stop"),
        ((BOUNCE, STOP), OUT, "bounce:5.1.1+stop"),
        ((STOP, BOUNCE), OUT, "bounce:5.1.1+stop"),
        ((BOUNCE, STOP, ALLOW), OUT, "stop"),
        ((STOP, BOUNCE, ALLOW), OUT, "stop"),
        ((BLOCK, STOP, ALLOW), OUT, "stop"),
        ((STOP, BLOCK, ALLOW), OUT, "stop"),
        ((BOUNCE, STOP, ALLOW, ALLOW), IN, "operator"),
        ((BOUNCE, STOP, ALLOW, START), IN, "start"),
        ((BOUNCE, STOP, START), OUT, "bounce:5.1.1"),
        ((BOUNCE, STOP, START, ALLOW), IN, "operator"),
        ((BOUNCE, START), OUT, "bounce:5.1.1"),
        ((BLOCK, BOUNCE), OUT, "operator"),
        ((BOUNCE, BLOCK), OUT, "operator"),
        ((BOUNCE, STOP, BLOCK), OUT, "operator+stop"),
        ((BOUNCE, STOP, Said(OUT, "unsubscribe")), OUT, "bounce:5.1.1+unsubscribe"),
        ((STOP, ALLOW), IN, "operator"),
        ((Said(OUT, "provider:21610"), START), IN, "start"),
    ],
)
def test_a_wish_and_a_hold_stand_side_by_side(words, state: RecipientState, reason: str) -> None:
    standing = stands_after(*words)
    assert standing is not None
    assert (standing.state, standing.reason) == (state, reason)
    assert first_reason(reason) == reason.partition("+")[0]


@pytest.mark.parametrize("ahead_s", [-3600, 0, 1, 3600])
@pytest.mark.parametrize(("word", "other"), [(STOP, START), (START, STOP)])
def test_what_is_said_now_counts_whatever_clock_stamped_the_word_before(ahead_s, word, other) -> None:
    before = Standing(other.state, other.reason, NOW + timedelta(seconds=ahead_s))
    standing = after(before, word, NOW)
    assert standing is not None
    assert (standing.state, standing.reason) == (word.state, word.reason)
    assert standing.changed_at == max(NOW, before.changed_at)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("before", "said", "counts"),
    [
        (Standing(IN, "operator", at(0)), Said(OUT, "bounce:5.1.1", at(-1)), False),
        (Standing(IN, "operator", at(0)), Said(OUT, "bounce:5.1.1", at(0)), True),
        (Standing(IN, "operator", at(0)), Said(OUT, "bounce:5.1.1", at(1)), True),
        (Standing(OUT, "stop", at(0)), Said(IN, "start", at(0)), False),
        (Standing(OUT, "stop", at(0)), Said(IN, "start", at(1)), True),
        (Standing(OUT, "stop", at(400)), Said(IN, "start", at(10**9)), False),  # counts as five minutes ahead
    ],
)
def test_what_is_said_of_another_time_counts_if_it_is_later(before, said: Said, *, counts: bool) -> None:
    assert (after(before, said, NOW) is not None) == counts


@given(st.lists(st.sampled_from([BOUNCE, BLOCK, ALLOW, STOP, START]), max_size=12))
def test_nobody_gets_messages_against_a_word_that_was_not_taken_back(words: list[Said]) -> None:
    """The model: a wish and a hold, each with its own key to the door."""
    wish = hold = False
    for word in words:
        if word is STOP:
            wish = True
        elif word is START:
            wish = False
        elif word is ALLOW:
            wish, hold = (wish, False) if hold else (False, False)
        else:
            hold = True
    standing = stands_after(*words)
    assert (standing is not None and standing.state is OUT) == (wish or hold)
