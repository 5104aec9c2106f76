"""Mails as a reader sees them: whatever an order holds, the same headers, recipient and parts."""

from datetime import UTC, datetime
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mail_reading import (
    ALTERNATIVES,
    HEADERS,
    NOW,
    claim,
    invoice,
    plain,
    read_back,
    shape,
    templates,
    writer,
)

from pipeline.errors import RejectedError
from pipeline.notifications.mail.mime import header_date, header_text
from pipeline.notifications.mail.words import one_line
from pipeline.notifications.notification import Attachment

FOOTER = "We will send your invoice soon."

# What has gone wrong in mail software: encoded words with line breaks in them, header ends, dots, boundaries.
HOSTILE = [
    "=?utf-8?q?Bob=0D=0AReply-To:_evil@example.com?=",
    "=?utf-8?q?=0D=0A=0D=0A<h1>?=",
    "a\r\nBcc: evil@example.com",
    "a\nX: y\n\nbody",
    "\r\n.\r\n",
    "--=_postorder_alternatives--",
    "<script>alert(1)</script>",
    "{{7*7}} {0.__class__} %s",
    "x" * 5000,
    "\u202e\u200b\x00\x1b[31m",
    '"; filename="evil.exe',
]
anything = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=80))


def test_a_plain_order_mail() -> None:
    mail = read_back(templates.email(claim(), "ada@example.com", ()))
    assert shape(mail) == (HEADERS, ["ada@example.com"], ALTERNATIVES)
    assert mail["Subject"] == "Your order o-1"
    assert mail["From"].addresses[0].display_name == 'Shop "S" & Söhne'
    text = plain(mail, "plain")
    for part in ("Hello Ada,", "2 x Blue Train  €59.90", "Total: €74.40", FOOTER):
        assert part in text
    html = mail.get_body(("html",))
    assert html is not None
    assert "Shop &amp; Söhne" in html.get_content()


def test_an_order_mail_with_its_invoice_has_no_footer() -> None:
    attachment = Attachment(
        filename="invoice.pdf", media_type="application/pdf", content=bytes(range(256)) * 40
    )
    mail = read_back(templates.email(claim(invoices=(invoice(),)), "ada@example.com", (attachment,)))
    assert shape(mail)[2] == ["multipart/mixed", *ALTERNATIVES, "application/pdf"]
    [part] = mail.iter_attachments()
    assert (part.get_filename(), part.get_content()) == ("invoice.pdf", attachment.content)
    assert FOOTER not in plain(mail, "plain")
    assert "Your invoice 2026-1 is attached." in plain(mail, "plain")


def test_names_in_other_scripts_come_out_whole() -> None:
    mail = read_back(
        templates.email(claim(number="№ 日本-1001 ✓" * 6, customer_name="Ольга"), "a@example.com", ())
    )
    assert mail["Subject"] == "Your order " + "№ 日本-1001 ✓" * 6
    assert "Hello Ольга," in plain(mail, "plain")


@settings(deadline=None)
@given(name=anything, number=anything, title=anything)
def test_no_order_changes_the_shape_of_its_mail(name: str, number: str, title: str) -> None:
    try:
        lines = orjson.dumps([{"sku": "a", "quantity": 1, "unit_price": "1", "title": title}]).decode()
    except TypeError:
        return  # a lone surrogate is no JSON, so it cannot come out of the database
    order = claim(customer_name=name, number=number, lines=lines)
    mail = read_back(templates.email(order, "ada@example.com", ()))
    assert shape(mail) == (HEADERS, ["ada@example.com"], ALTERNATIVES)
    assert "<script" not in mail.get_body(("html",)).get_content()
    sms = templates.sms(claim(customer_name=name, number=number), "+14155550123")
    assert sms.body.isprintable()


@settings(deadline=None)
@given(filename=anything)
def test_no_file_name_changes_the_shape(filename: str) -> None:
    attachment = Attachment(filename=filename, media_type="application/pdf", content=b"x")
    mail = read_back(templates.email(claim(), "ada@example.com", (attachment,)))
    assert shape(mail)[:2] == (HEADERS, ["ada@example.com"])
    assert len(list(mail.iter_attachments())) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_a_header_text_is_one_line_without_encoded_words_of_its_own(text: str) -> None:
    header = header_text(text)
    assert "=?" not in header or header.startswith("=?utf-8?b?")
    assert "\n" not in header.replace("\r\n =?utf-8?b?", "")


def test_white_space_becomes_single_spaces() -> None:
    assert one_line(" a\tb\r\n\x00 c\u200b ") == "a b c"


@pytest.mark.parametrize("media_type", ["multipart/mixed", "message/rfc822", "multipart/alternative"])
def test_an_attachment_is_one_part_whatever_it_says_it_is(media_type: str) -> None:
    inner = b"Content-Type: text/html\r\n\r\n<script>"
    attachment = Attachment(filename="a", media_type=media_type, content=inner)
    mail = read_back(templates.email(claim(), "ada@example.com", (attachment,)))
    assert shape(mail)[2] == ["multipart/mixed", *ALTERNATIVES, "application/octet-stream"]


def test_a_mail_sent_again_is_the_same_bytes() -> None:
    def write(now: datetime) -> bytes:
        return writer.write(templates.email(claim(attempt=now.day), "ada@example.com", ()), now)

    assert write(datetime(2026, 1, 1, tzinfo=UTC)) == write(datetime(2026, 5, 5, tzinfo=UTC))
    assert b"\r\nMessage-ID: <00000000000000000000000000000001@shop.example>\r\n" in write(NOW)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_a_date_is_written_as_the_standard_library_does(moment: datetime) -> None:
    assert header_date(moment) == format_datetime(moment)


def test_one_click_unsubscribing_has_both_headers_and_a_link() -> None:
    url = "https://shop.example/unsubscribe/1a2b?x=1&y=2"
    mail = read_back(templates.email(claim(), "ada@example.com", (), url))
    names = [*HEADERS[:5], "List-Unsubscribe", "List-Unsubscribe-Post", *HEADERS[5:]]
    assert shape(mail) == (names, ["ada@example.com"], ALTERNATIVES)
    assert mail["List-Unsubscribe"] == f"<{url}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert f"Unsubscribe:\n{url}" in plain(mail, "plain")
    assert f'href="{url.replace("&", "&amp;")}"' in plain(mail, "html")


@pytest.mark.parametrize(
    "url", ["https://a/>\r\nBcc: b", "https://a/ b", "javascript:x", "https://a/<b>", "https://ä/"]
)
def test_no_url_ends_its_header(url: str) -> None:
    with pytest.raises(RejectedError, match="unsubscribe_url"):
        writer.write(templates.email(claim(), "ada@example.com", (), url), NOW)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_a_subject_comes_back_as_it_went_in(number: str) -> None:
    message = templates.email(claim(number=number), "ada@example.com", ())
    raw = writer.write(message, NOW)
    lines = raw.partition(b"\r\nMessage-ID")[0].split(b"\r\n")
    assert max(map(len, lines)) <= max(78, *(len(word) + 10 for word in message.subject.split()))
    # The library's parser, like all, drops space between encoded words and nothing else.
    assert str(read_back(message)["Subject"]) == message.subject.replace("=?", "= ?")


@settings(max_examples=60, deadline=None)
@given(name=anything, number=anything, titles=st.lists(anything, max_size=4), invoices=st.integers(0, 3))
def test_a_skeleton_says_what_jinja_says(name: str, number: str, titles: list[str], invoices: int) -> None:
    lines = [
        {"sku": "a", "quantity": at + 1, "unit_price": "1.5", "title": title}
        for at, title in enumerate(titles)
    ]
    try:
        encoded = orjson.dumps(lines).decode()
    except TypeError:
        return  # as above
    order = claim(customer_name=name, number=number or "1", lines=encoded, invoices=(invoice(),) * invoices)
    mail = read_back(templates.email(order, "ada@example.com", ()))
    by_jinja = templates.read(order)
    assert plain(mail, "plain").rstrip() == by_jinja.text.rstrip()
    assert plain(mail, "html").rstrip() == by_jinja.html.rstrip()
