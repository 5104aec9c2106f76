"""Whether a listed message is the one looked for."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from pipeline.notifications.sms.likeness import Likeness, Listed, judge

SINCE = datetime(2026, 11, 21, 12, tzinfo=UTC)
BODY = "Shop: thank you, Ada! Your order 1001 over 12.50 EUR is being prepared."


def likeness(
    body: str | None = BODY, *, after_s: float = 0.0, wanted: str = BODY, **changes: Any
) -> Likeness:
    values = {
        "sid": "SM1",
        "date_created": format_datetime(SINCE + timedelta(seconds=after_s)),
        "direction": "outbound-api",
        "body": body,
    }
    return judge(Listed(**{**values, **changes}), wanted, SINCE)


@pytest.mark.parametrize("after_s", [-5, 0, 3600])
def test_the_same_text_since_then_is_the_message(after_s: float) -> None:
    assert likeness(after_s=after_s) is Likeness.SAME


def test_white_space_and_a_trial_accounts_words_do_not_count() -> None:
    assert likeness(f" {BODY.replace(' ', '  ')}\n") is Likeness.SAME
    assert likeness(f"Sent from your Twilio trial account - {BODY}") is Likeness.SAME


def test_the_same_text_from_before_leaves_it_open() -> None:
    """Either somebody's clock is wrong, or it is another message: neither may be taken for granted."""
    assert likeness(after_s=-6) is Likeness.AMBIGUOUS
    assert likeness(after_s=-90_000) is Likeness.OTHER


def test_a_text_that_was_taken_out_leaves_it_open() -> None:
    assert likeness("") is Likeness.REDACTED
    assert likeness(None) is Likeness.REDACTED
    assert likeness("", after_s=-6) is Likeness.OTHER


@pytest.mark.parametrize("body", ["Order 1001 shipped", "Total 12.50", "Thank you", "Ваш заказ 1001", "1001"])
def test_another_text_that_may_be_of_the_same_order_leaves_it_open(body: str) -> None:
    assert likeness(body) is Likeness.AMBIGUOUS


def test_a_text_of_another_order_is_another_message() -> None:
    assert likeness(BODY.replace("1001", "1002").replace("12.50", "9.99")) is Likeness.OTHER
    assert likeness(BODY.replace("1001", "1002")) is Likeness.AMBIGUOUS  # the same total
    assert likeness("Hello 5", wanted="no number at all") is Likeness.AMBIGUOUS


def test_inbound_messages_are_none_of_ours() -> None:
    assert likeness(direction="inbound") is Likeness.OTHER
    assert likeness(direction="outbound-reply") is Likeness.SAME


def test_a_date_that_is_none_leaves_it_open() -> None:
    assert likeness(date_created="yesterday") is Likeness.AMBIGUOUS
