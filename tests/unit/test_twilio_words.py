"""What Twilio's requests say: status words, and what texts from handsets ask for."""

import pytest
from public_site import SID, inbound_fields, public_settings, status_fields

from pipeline.errors import CallbackError
from pipeline.notifications.callbacks.forms import parse_form
from pipeline.notifications.callbacks.twilio_words import InboundReader, Wish, read_status

READER = InboundReader(public_settings().public)


@pytest.mark.parametrize(
    ("body", "wish"),
    [
        ("STOP", Wish.STOP),
        ("stop", Wish.STOP),
        ("  Stop.\r\n", Wish.STOP),
        ("“STOP!”", Wish.STOP),
        ("ＳＴＯＰ", Wish.STOP),
        ("st\u200bop", Wish.STOP),
        ("STOPALL", Wish.STOP),
        ("Unsubscribe", Wish.STOP),
        ("cancel", Wish.STOP),
        ("END", Wish.STOP),
        ("Quit", Wish.STOP),
        ("STOPP", Wish.STOP),
        ("Arrêt", Wish.STOP),
        ("Arre\u0302t", Wish.STOP),
        ("रोकें", Wish.STOP),
        ("ТОҚТА", Wish.STOP),
        ("START", Wish.START),
        ("yes", Wish.START),
        ("Unstop", Wish.START),
        ("HELP", Wish.HELP),
        ("info?", Wish.HELP),
        ("Please stop", Wish.NOTHING),
        ("stop it", Wish.NOTHING),
        ("non-stop", Wish.NOTHING),
        ("Do not stop", Wish.NOTHING),
        ("", Wish.NOTHING),
        ("!!!", Wish.NOTHING),
        ("STOP" * 400, Wish.NOTHING),
        ("\u202eSTOP", Wish.STOP),
        ("\x00STOP\x00", Wish.STOP),
    ],
)
def test_what_a_text_asks_for(body: str, wish: Wish) -> None:
    assert READER.read(list(inbound_fields(Body=body).items())).wish is wish


@pytest.mark.parametrize(("named", "wish"), [("STOP", Wish.STOP), ("START", Wish.START), ("HELP", Wish.HELP)])
def test_twilios_own_word_for_the_wish_goes_first(named: str, wish: Wish) -> None:
    """With Advanced Opt-Out the customer's words are known to Twilio alone."""
    assert READER.read(list(inbound_fields(Body="genug", OptOutType=named).items())).wish is wish


def test_only_numbers_can_be_taken_off() -> None:
    for sender in ("12345", "whatsapp:+14155550123", "SHOP", "", "+0123456789", "+1415555012x"):
        assert READER.read(list(inbound_fields(From=sender).items())).sender is None
    assert READER.read(list(inbound_fields().items())).sender == "+14155550123"


def test_a_status_callback_is_read() -> None:
    read = read_status(list(status_fields(MessageStatus="Undelivered ", ErrorCode="30003").items()))
    assert (read.sid, read.status, read.error_code, read.to) == (SID, "undelivered", "30003", "+14155550123")
    assert read_status(list(status_fields(ErrorCode="0").items())).error_code is None
    assert read_status(list(status_fields(ErrorCode="").items())).error_code is None
    assert read_status(list(status_fields(To="whatsapp:+14155550123").items())).to is None


@pytest.mark.parametrize(
    "fields",
    [
        [("MessageStatus", "sent")],
        [("MessageSid", SID)],
        [("MessageSid", "SM" + "g" * 32), ("MessageStatus", "sent")],
        [("MessageSid", SID + "\n"), ("MessageStatus", "sent")],
        [("MessageSid", SID), ("MessageStatus", "a" * 41)],
        [("MessageSid", SID), ("MessageSid", SID), ("MessageStatus", "sent")],
        [("MessageSid", SID), ("MessageStatus", "sent"), ("ErrorCode", "٣")],
        [("MessageSid", SID), ("MessageStatus", "sent"), ("ErrorCode", "-1")],
    ],
)
def test_what_cannot_be_read_is_said_without_a_value(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(CallbackError) as caught:
        read_status(fields)
    assert SID not in str(caught.value)


@pytest.mark.parametrize("body", [b"a=1&" * 300, b"a", b"a=%ff", b"\xff=1", b"a=1;b=2&c"])
def test_what_is_no_form(body: bytes) -> None:
    with pytest.raises(CallbackError):
        parse_form(body)


def test_a_form_keeps_what_is_empty_and_what_is_repeated() -> None:
    assert parse_form(b"a=&b=+x%20&a=%C3%A9") == [("a", ""), ("b", " x "), ("a", "é")]
    assert parse_form(b"") == []
