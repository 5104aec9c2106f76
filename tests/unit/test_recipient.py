"""Phone numbers and addresses as people write them."""

import pytest

from pipeline.errors import RecipientRefusedError
from pipeline.notifications.mail.address import email_address
from pipeline.notifications.sms.phone import phone_number

PHONES = {
    ("+14155550123", None): "+14155550123",
    ("+1 (415) 555-0123", None): "+14155550123",
    ("(415) 555-0123", "US"): "+14155550123",
    ("030 901820", "DE"): "+4930901820",
    ("0049 30 901820", "DE"): "+4930901820",
    ("+49 30 901820", "US"): "+4930901820",
    ("06 698 1234 5", "IT"): "+390669812345",
    ("8 701 111 22 33", "KZ"): "+77011112233",
    ("+91 98765 43210", None): "+919876543210",
}
BAD_PHONES = [
    *(
        "555-CALL-ME",
        "+1415555012",
        "+141555501234567",
        "+999123456789",
        "+0123456789",
        "++14155550123",
        "12",
        "+",
    ),
    *(
        "+14155550123 x5",
        "+14155550123;ext=5",
        "tel:+14155550123",
        "+1415555\x000123",
        "+14155550123\n+14155550124",
    ),
    *(
        "+１４１５５５５０１２３",
        "+١٤١٥٥٥٥٠١٢٣",
        "+14155550123,+14155550124",
        "1" * 300,
        "+1415\u200b5550123",
    ),
]
EMAILS = {
    "ada@example.com": "ada@example.com",
    " ada@example.com ": "ada@example.com",
    "Ada.Lovelace+tag@Example.COM": "Ada.Lovelace+tag@example.com",
    "o'brien@example.com": "o'brien@example.com",
    "a@münchen.example.com": "a@xn--mnchen-3ya.example.com",
}
BAD_EMAILS = [
    *("a", "a@", "@b.com", "a@b", "a b@example.com", "a..b@example.com", ".a@example.com", "a.@example.com"),
    *("a@example.com\r\nBcc: b@example.com", "a@example.com\nb@example.com", "a@example.com,b@example.com"),
    *("Ada <ada@example.com>", "<ada@example.com>", "a@example.com> SIZE=1", "a@[127.0.0.1]", "a@localhost"),
    *(
        "a@example.test",
        "a@x.invalid",
        "a@example.com.",
        "a\x00@example.com",
        "=?utf-8?q?a?=@example.com\r\n",
    ),
    *("a" * 65 + "@example.com", "a@" + "b" * 64 + ".com", "a@-b.com", "ада@example.com", "a@exa_mple.com"),
    *('"a b"@example.com', "(x)a@example.com", "a@b@example.com", "a\u200b@example.com"),
]


@pytest.mark.parametrize(("raw", "expected"), PHONES.items(), ids=lambda value: repr(value)[:40])
def test_a_number_becomes_e164(raw: tuple[str, str | None], expected: str) -> None:
    assert phone_number(*raw) == expected


@pytest.mark.parametrize("raw", BAD_PHONES, ids=lambda value: repr(value)[:40])
def test_what_is_no_number_is_refused(raw: str) -> None:
    with pytest.raises(RecipientRefusedError) as caught:
        phone_number(raw, "US")
    assert caught.value.code == "invalid_phone"


@pytest.mark.parametrize(("raw", "expected"), EMAILS.items())
def test_an_address_is_normalised(raw: str, expected: str) -> None:
    assert email_address(raw) == expected


@pytest.mark.parametrize("raw", BAD_EMAILS, ids=lambda value: repr(value)[:40])
def test_what_is_no_address_is_refused(raw: str) -> None:
    with pytest.raises(RecipientRefusedError) as caught:
        email_address(raw)
    assert caught.value.code == "invalid_email"


@pytest.mark.parametrize("raw", [None, "", "   "])
def test_nothing_is_nothing(raw: str | None) -> None:
    for judge, code in (
        (lambda: phone_number(raw, None), "no_phone"),
        (lambda: email_address(raw), "no_email"),
    ):
        with pytest.raises(RecipientRefusedError) as caught:
            judge()
        assert caught.value.code == code


def test_a_refusal_keeps_nothing_of_those_before() -> None:
    """One error raised again and again would keep each claim it ever went past, and grow without end."""
    refusals = []
    for _ in range(3):
        with pytest.raises(RecipientRefusedError) as refused:
            phone_number("no number", None)
        refusals.append(refused)
    assert {len(refused.traceback) for refused in refusals} == {len(refusals[0].traceback)}
    assert len({id(refused.value) for refused in refusals}) == len(refusals)
