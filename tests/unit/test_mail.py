"""Mails as a reader sees them: whatever an order holds, the same headers, recipient and parts."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.notifications.mail.mime import MailWriter, header_text
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.mail.words import one_line
from pipeline.notifications.notification import Attachment, Email
from pipeline.storage.outbox import Channel, Claim, InvoiceDocument, Kind

HEADERS = ["From", "To", "Subject", "Message-ID", "Date", "Auto-Submitted", "MIME-Version", "Content-Type"]
PLAIN = ["multipart/alternative", "text/plain", "text/html"]
FOOTER = "We will send your invoice soon."
writer = MailWriter(sender="orders@shop.example", sender_name='Shop "S" & Söhne')
templates = Templates(shop="Shop & Söhne")

# What has gone wrong in mail software: encoded words with line breaks in them, header ends, dots, boundaries.
HOSTILE = [
    "=?utf-8?q?Bob=0D=0AReply-To:_evil@example.com?=",
    "=?utf-8?q?=0D=0A=0D=0A<h1>?=",
    "a\r\nBcc: evil@example.com",
    "a\nX: y\n\nbody",
    "\r\n.\r\n",
    "--=_alt_00000000000000000000000000000001--",
    "<script>alert(1)</script>",
    "{{7*7}} {0.__class__} %s",
    "x" * 5000,
    "\u202e\u200b\x00\x1b[31m",
    '"; filename="evil.exe',
]
anything = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=80))


def claim(**changes) -> Claim:
    values = {
        "shard": "s",
        "slot": 1,
        "effect_id": UUID(int=1),
        "claim_id": UUID(int=2),
        "channel": Channel.EMAIL,
        "kind": Kind.ORDER_EMAIL,
        "order_id": "o-1",
        "invoice_id": None,
        "attempt": 1,
        "is_expired": False,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "event_time": None,
        "number": None,
        "customer_name": "Ada",
        "email": "ada@example.com",
        "phone": None,
        "locale": None,
        "country": None,
        "currency": "EUR",
        "total": "74.4000",
        "lines": '[{"sku":"LP-77","quantity":2,"unit_price":"29.95","title":"Blue Train"}]',
    }
    return Claim(**{**values, **changes})


def invoice(**changes) -> InvoiceDocument:
    values = {
        "invoice_id": "inv-1",
        "number": "2026-1",
        "currency": "EUR",
        "total": "74.40",
        "media_type": "application/pdf",
        "filename": None,
        "content": b"%PDF",
        "url": None,
    }
    return InvoiceDocument(**{**values, **changes})


def read(message: Email) -> EmailMessage:
    raw = writer.write(message, datetime(2026, 1, 1, tzinfo=UTC))
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    mail = message_from_bytes(raw, policy=default)
    assert [part.defects for part in mail.walk()] == [[]] * len(list(mail.walk()))
    return mail


def shape(mail: EmailMessage) -> tuple[list[str], list[str], list[str]]:
    addresses = [address.addr_spec for address in mail["To"].addresses]
    return list(mail.keys()), addresses, [part.get_content_type() for part in mail.walk()]


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return body.get_content()


def test_a_plain_order_mail() -> None:
    mail = read(templates.email(claim(), "ada@example.com", ()))
    assert shape(mail) == (HEADERS, ["ada@example.com"], PLAIN)
    assert mail["Subject"] == "Your order o-1"
    assert mail["From"].addresses[0].display_name == 'Shop "S" & Söhne'
    text = text_of(mail)
    for part in ("Hello Ada,", "2 x Blue Train  €59.90", "Total: €74.40", FOOTER):
        assert part in text
    html = mail.get_body(("html",))
    assert html is not None
    assert "Shop &amp; Söhne" in html.get_content()


def test_an_order_mail_with_its_invoice_has_no_footer() -> None:
    attachment = Attachment(
        filename="invoice.pdf", media_type="application/pdf", content=bytes(range(256)) * 40
    )
    mail = read(templates.email(claim(invoices=(invoice(),)), "ada@example.com", (attachment,)))
    assert shape(mail)[2] == ["multipart/mixed", *PLAIN, "application/pdf"]
    [part] = mail.iter_attachments()
    assert (part.get_filename(), part.get_content()) == ("invoice.pdf", attachment.content)
    assert FOOTER not in text_of(mail)
    assert "Your invoice 2026-1 is attached." in text_of(mail)


def test_names_in_other_scripts_come_out_whole() -> None:
    mail = read(
        templates.email(claim(number="№ 日本-1001 ✓" * 6, customer_name="Ольга"), "a@example.com", ())
    )
    assert mail["Subject"] == "Your order " + "№ 日本-1001 ✓" * 6
    assert "Hello Ольга," in text_of(mail)


@given(name=anything, number=anything, title=anything)
def test_no_order_changes_the_shape_of_its_mail(name: str, number: str, title: str) -> None:
    import orjson  # noqa: PLC0415  # only here

    try:
        lines = orjson.dumps([{"sku": "a", "quantity": 1, "unit_price": "1", "title": title}]).decode()
    except TypeError:
        return  # a lone surrogate is no JSON, so it cannot come out of the database
    mail = read(templates.email(claim(customer_name=name, number=number, lines=lines), "ada@example.com", ()))
    assert shape(mail) == (HEADERS, ["ada@example.com"], PLAIN)
    assert "<script" not in mail.get_body(("html",)).get_content()
    sms = templates.sms(claim(customer_name=name, number=number), "+14155550123")
    assert sms.body.isprintable()


@given(filename=anything)
def test_no_file_name_changes_the_shape(filename: str) -> None:
    attachment = Attachment(filename=filename, media_type="application/pdf", content=b"x")
    mail = read(templates.email(claim(), "ada@example.com", (attachment,)))
    assert shape(mail)[:2] == (HEADERS, ["ada@example.com"])
    assert len(list(mail.iter_attachments())) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_a_header_text_is_one_line_without_encoded_words_of_its_own(text: str) -> None:
    header = header_text(text)
    assert "=?" not in header or header.startswith("=?utf-8?b?")
    assert "\n" not in header.replace("\r\n =?utf-8?b?", "")


def test_white_space_becomes_single_spaces() -> None:
    assert one_line(" a\tb\r\n\x00 c\u200b ") == "a b c"
