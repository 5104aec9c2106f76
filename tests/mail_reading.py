"""Mails of made-up orders, and mails read back with the standard library."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from uuid import UUID

from pipeline.notifications.mail.mime import MailWriter
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.notification import Email
from pipeline.storage.outbox import Channel, Claim, InvoiceDocument, Kind

HEADERS = ["From", "To", "Subject", "Message-ID", "Date", "Auto-Submitted", "MIME-Version", "Content-Type"]
ALTERNATIVES = ["multipart/alternative", "text/plain", "text/html"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
writer = MailWriter(sender="orders@shop.example", sender_name='Shop "S" & Söhne')
templates = Templates(shop="Shop & Söhne")


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
        "created_at": NOW,
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


def read_back(message: Email) -> EmailMessage:
    """Parse a mail, having checked that every line can be carried and nothing in it is defective."""
    raw = writer.write(message, NOW)
    assert raw.isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    mail = message_from_bytes(raw, policy=default)
    assert [part.defects for part in mail.walk()] == [[]] * len(list(mail.walk()))
    assert not [header for header in mail.values() if header.defects]
    return mail


def shape(mail: EmailMessage) -> tuple[list[str], list[str], list[str]]:
    addresses = [address.addr_spec for address in mail["To"].addresses]
    return list(mail.keys()), addresses, [part.get_content_type() for part in mail.walk()]


def plain(mail: EmailMessage, subtype: str) -> str:
    body = mail.get_body((subtype,))
    assert body is not None
    return body.get_content().replace("\r\n", "\n")
