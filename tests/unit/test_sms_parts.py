"""Segments, shortening, the table of errors, and what makes an SMS ready."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import (
    AccountRefusedError,
    OutcomeUnknownError,
    ProviderError,
    RecipientRefusedError,
    RejectedError,
    SettingsError,
    ThrottledError,
)
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.notification import Sms
from pipeline.notifications.providers.twilio_reply import Reply, retry_after_s
from pipeline.notifications.sms.composition import SmsComposition
from pipeline.notifications.sms.error_table import ErrorClass, ErrorTable
from pipeline.notifications.sms.segments import is_gsm7, measure
from pipeline.notifications.sms.text import TextShaper
from pipeline.settings import SmsSettings
from pipeline.storage.outbox import Channel, Claim, Kind
from stack.twilio.sms_segments import GSM_BASIC, GSM_EXTENSION, segment_count

PRINTABLE = [character for character in GSM_BASIC + GSM_EXTENSION if character.isprintable()]
texts = st.one_of(
    st.text(st.sampled_from(PRINTABLE), min_size=1, max_size=700),
    st.text(st.sampled_from([*"ab€[Ж 😀👧\u200d\u094dक’"]), min_size=1, max_size=300),
    st.text(max_size=300),
)


@given(texts)
def test_segments_are_counted_as_the_emulator_counts_them(text: str) -> None:
    assert measure(text).segments == segment_count(text)


@given(text=texts, segments_max=st.integers(1, 4), plain=st.booleans())
def test_whatever_goes_out_is_one_printable_line_that_fits(
    *, text: str, segments_max: int, plain: bool
) -> None:
    shaper = TextShaper(segments_max=segments_max, plain_marks=plain)
    try:
        sent = shaper.shape(text)
    except RejectedError:
        assert not any(character.isprintable() and not character.isspace() for character in text)
        return
    assert segment_count(sent) <= segments_max
    assert all(character.isprintable() or character in "\u200c\u200d" for character in sent)
    assert shaper.shape(sent) == sent
    if is_gsm7(text):
        assert is_gsm7(sent)


def test_a_shortened_text_ends_with_a_word_and_uses_what_room_there_is() -> None:
    text = " ".join(f"word{number}" for number in range(200))
    sent = TextShaper(segments_max=3, plain_marks=True).shape(text)
    assert text.startswith(sent.removesuffix("...") + " ")
    assert 459 - len("word100 ") < measure(sent).units <= 459


NAMES = {  # 259 of the corpus
    "Ada Lovelace": False,
    "J. R. R. Tolkien": False,
    "J.R.R. Tolkien": False,
    "O'Brien-Smith": False,
    "Zoë Ж. 王": False,
    "http://evil.example/x": True,
    "Win at evil.example": True,
    "WWW.evil": True,
    "ada@evil": True,
    "пример.рф": True,
}


@pytest.mark.parametrize(("name", "is_link"), NAMES.items())
def test_a_name_that_a_phone_would_make_a_link_of_is_left_out(name: str, *, is_link: bool) -> None:
    body = Templates(shop="Shop").sms(claim(customer_name=name), "+14155550123").body
    assert (name in body) is not is_link
    assert "1001" in body


TABLE = ErrorTable.load()


@pytest.mark.parametrize(
    ("status", "code", "expected", "name"),
    [
        (400, 21211, RecipientRefusedError, "21211"),
        (400, 21610, RecipientRefusedError, "21610"),
        (400, 21408, RejectedError, "21408"),
        (400, 99999, RejectedError, "99999"),
        (429, 20429, ThrottledError, "20429"),
        (429, 21611, ThrottledError, "21611"),
        (401, 20003, AccountRefusedError, "20003"),
        (404, None, AccountRefusedError, "404"),
        (400, 21660, AccountRefusedError, "21660"),
        (400, 21661, AccountRefusedError, "21661"),
        (400, None, ThrottledError, "400"),
        (418, None, ThrottledError, "418"),
        (408, None, OutcomeUnknownError, "408"),
        (500, 20500, OutcomeUnknownError, "20500"),
        (503, 21211, OutcomeUnknownError, "21211"),
        (302, None, OutcomeUnknownError, "302"),
    ],
)
def test_refusals(status: int, code: int | None, expected: type[ProviderError], name: str) -> None:
    refusal = TABLE.refusal(status, code)
    assert type(refusal) is expected
    assert refusal.code == name


@pytest.mark.parametrize("code", [21606, 21659])
def test_a_destination_that_cannot_be_reached_holds_no_other_message_back(code: int) -> None:
    """A refused account opens the circuit, and a time asked for holds the slot: one order would stop all."""
    refusal = TABLE.refusal(400, code)
    assert type(refusal) is ThrottledError
    assert refusal.retry_after_s is None


def test_the_table_has_every_code_that_the_emulator_knows() -> None:
    from stack.twilio.errors import DELIVERY_ERRORS, REQUEST_ERRORS  # noqa: PLC0415

    general = {20001, 20004, 20009, 30409, 35114}  # not about creating a message
    assert {code for code in {*REQUEST_ERRORS, *DELIVERY_ERRORS} if TABLE.meaning(code) is None} == general
    assert all(
        meaning is not None and meaning.asynchronous for meaning in map(TABLE.meaning, DELIVERY_ERRORS)
    )
    opted_out = TABLE.meaning(21610)
    assert opted_out is not None
    assert opted_out.kind is ErrorClass.OPTED_OUT


def test_an_answer_to_a_wait_asked_for_goes_before_the_table() -> None:
    throttled, account = TABLE.refusal(429, 21611, 7.0), TABLE.refusal(401, 20003)
    assert isinstance(throttled, ThrottledError)
    assert isinstance(account, ThrottledError)
    assert (throttled.retry_after_s, account.retry_after_s) == (7.0, 60)


ENTRY = '[[error]]\ncode = {code}\nclass = "{kind}"\nmeaning = "{meaning}"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ENTRY.format(code=1, kind="retry", meaning="m") * 2, "code 1: is there twice"),
        (ENTRY.format(code=1, kind="perhaps", meaning="m"), "perhaps"),
        (ENTRY.format(code=1, kind="terminal", meaning=" "), "code 1: `meaning` is empty"),
        (
            ENTRY.format(code=1, kind="terminal", meaning="m") + "retry_after_s = 5\n",
            "code 1: `retry_after_s`",
        ),
        (
            ENTRY.format(code=1, kind="retry", meaning="m") + "retry_after_s = 4000\n",
            "code 1: `retry_after_s`",
        ),
        (ENTRY.format(code=1, kind="retry", meaning="m") + "status = 400\n", "code 1: needs `code`"),
        (ENTRY.format(code=1, kind="retry", meaning="m") + "colour = 1\n", "colour"),
        ("not toml", "twilio_errors.toml"),
    ],
)
def test_a_table_that_is_wrong_is_refused_at_start(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        ErrorTable.load(text if text == "not toml" else f"status = []\n{text}")


DATE = "Thu, 24 Aug 2023 05:01:45 GMT"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("99999999999999999999", 3600.0),
        ("Thu, 24 Aug 2023 05:02:00 GMT", 15.0),
        ("Thu, 24 Aug 2033 05:02:00 GMT", 3600.0),
        ("Thu, 24 Aug 2013 05:02:00 GMT", None),
        *((nonsense, None) for nonsense in ("", "0", "-1", "soon", "1e3", "1.5", "٧", "0x10", "Thu", "1;2")),
        (None, None),
    ],
)
def test_retry_after(asked: str | None, expected: float | None) -> None:
    assert retry_after_s(Reply(429, b"", asked, DATE)) == expected


def claim(**changes: Any) -> Claim:
    values = {
        "shard": "a",
        "slot": 1,
        "effect_id": UUID(int=7),
        "claim_id": UUID(int=8),
        "channel": Channel.SMS,
        "kind": Kind.ORDER_SMS,
        "order_id": "1001",
        "invoice_id": None,
        "attempt": 1,
        "is_expired": False,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "event_time": None,
        "number": None,
        "customer_name": None,
        "email": None,
        "phone": "+1 415 555 0123",
        "locale": None,
        "country": None,
        "currency": "EUR",
        "total": "1",
        "lines": "[]",
    }
    return Claim(**{**values, **changes})


@pytest.mark.parametrize(
    ("useful_until", "valid_s"),
    [(100.0 + 60, 60), (100.0 + 90_000, 36_000), (100.4, 1), (50.0, 1), (float("inf"), None)],
)
def test_an_sms_is_made_ready(useful_until: float, valid_s: int | None) -> None:
    composition = SmsComposition(
        SmsSettings(), callback_url=lambda claim: f"https://x/{claim.slot}", monotonic=lambda: 100.0
    )
    owed = claim(useful_until=useful_until, send_before=130.0)
    rendered = Sms(effect_id=owed.effect_id.hex, to=composition.recipient(owed), body="It’s\n1001")
    assert composition.finish(owed, rendered) == Sms(
        effect_id=owed.effect_id.hex,
        to="+14155550123",
        body="It's 1001",
        valid_s=valid_s,
        callback_url="https://x/1",
        send_before=130.0,
    )
