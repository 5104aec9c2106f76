"""Invoices of our own, read back: what they state, in which fonts, and that none blocks the loop."""

import asyncio
import re
import sys
import threading
import zlib

import orjson
import pytest
from fontTools.ttLib import TTFont
from fpdf.errors import FPDFException
from mail_reading import claim, invoice, templates

from pipeline.errors import DocumentError, DocumentUnavailableError
from pipeline.notifications.mail import invoice_maker
from pipeline.notifications.mail import invoice_pdf as invoice_pdf_module
from pipeline.notifications.mail.invoice_maker import InvoiceMaker
from pipeline.notifications.mail.invoice_pdf import (
    _BOLD,
    _DEVANAGARI,
    _DEVANAGARI_BOLD,
    _REGULAR,
    invoice_pdf,
)
from pipeline.storage.outbox import Kind

FONTS = (_REGULAR, _BOLD, _DEVANAGARI, _DEVANAGARI_BOLD)
OURS = {"content": None, "url": None}


def pdf(locale: str | None = None, **changes) -> bytes:
    order = claim(kind=Kind.INVOICE_EMAIL, locale=locale, **changes)
    return invoice_pdf(templates.invoice(order, invoice(**OURS)))


def streams(content: bytes) -> bytes:
    """Return the contents of a PDF's pages, and of all else that is deflated."""
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    return b"\n".join(zlib.decompress(one) if one[:1] == b"\x78" else one for one in found)


def test_what_it_states() -> None:
    content = pdf("de")
    assert content.startswith(b"%PDF-1.")
    text = streams(content).decode("windows-1252")
    for words in (
        "Rechnung",
        "2026-1",
        "o-1",
        "1. Januar 2026",
        "Ada",
        "Blue Train",
        "59,90\xa0€",
        "74,40\xa0€",
    ):
        assert f"({words})".replace("\xa0", " ") in text.replace("\xa0", " ")
    assert b"/Helvetica" in content
    assert len(content) < 5000


def test_the_same_invoice_is_the_same_bytes() -> None:
    assert pdf("de") == pdf("de")
    assert pdf("kk") == pdf("kk")


@pytest.mark.parametrize("locale", ["hi", "kk"])
def test_other_scripts_have_their_letters_in_the_file(locale: str) -> None:
    content = pdf(locale)
    assert b"NotoSans" in content
    fonts = re.findall(rb"/FontName /\w+\+(\w+)\n", content)
    regular_and_bold = [b"NotoSans"] * 2 + [b"NotoSansDevanagari"] * 2 * (locale == "hi")
    assert sorted(fonts) == regular_and_bold
    assert b"/Helvetica" not in content


def test_every_letter_of_our_own_words_has_a_picture() -> None:
    letters = {path: set(TTFont(path).getBestCmap()) for path in FONTS}
    for labels in templates.labels.values():
        for word in (getattr(labels, name) for name in labels.__struct_fields__):
            assert {ord(letter) for letter in word} <= letters[_REGULAR] | letters[_DEVANAGARI]
    assert letters[_REGULAR] == letters[_BOLD]
    assert letters[_DEVANAGARI] == letters[_DEVANAGARI_BOLD]


@pytest.mark.parametrize(
    "name", ["日本", "🎷", "שלום", "a\u0301" * 50, "x" * 200, "\\()<>[]%", "{{7*7}}", "\u202eabc"]
)
def test_no_name_stops_it(name: str) -> None:
    lines = orjson.dumps([{"sku": "a", "quantity": 1, "unit_price": "1", "title": name}] * 3).decode()
    assert pdf(customer_name=name, number=name, lines=lines).endswith(b"%%EOF\n")


def test_a_thousand_lines_go_over_many_pages() -> None:
    lines = orjson.dumps([{"sku": "a", "quantity": 1, "unit_price": "1", "title": "Record"}] * 1000).decode()
    content = pdf(lines=lines)
    pages = content.count(b"/Type /Page\n")
    assert pages > 20
    assert f"(Page 1 / ) Tj ({pages}) Tj".encode() in streams(content)


async def test_it_is_made_beside_the_loop_and_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = InvoiceMaker(templates)
    attachment = await maker.attachment(claim(), invoice(**OURS))
    assert (attachment.filename, attachment.media_type) == ("invoice-2026-1.pdf", "application/pdf")
    assert attachment.content.startswith(b"%PDF")
    late = threading.Event()
    impatient = InvoiceMaker(templates, timeout_s=0.05)
    monkeypatch.setattr(invoice_pdf_module, "invoice_pdf", lambda _facts: late.wait(10))
    try:
        async with asyncio.timeout(5):
            with pytest.raises(DocumentUnavailableError, match=r"not made in 0\.05 s"):
                await impatient.attachment(claim(), invoice(**OURS))
    finally:
        late.set()


async def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoice_maker, "_WAITING_MAX", 0)
    with pytest.raises(DocumentUnavailableError, match="too many"):
        await InvoiceMaker(templates).attachment(claim(), invoice(**OURS))


async def test_what_makes_pdfs_is_not_imported_before_there_is_one_to_be_made() -> None:
    """With the libraries for fonts and pictures it takes half of a process's start."""
    code = "import sys, consumers.bootstrap; print(sorted({'fpdf', 'fontTools', 'PIL'} & set(sys.modules)))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert out == b"[]\n"


async def test_an_invoice_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_facts: object) -> bytes:
        raise FPDFException("no place for it")

    monkeypatch.setattr(invoice_pdf_module, "invoice_pdf", failing)
    with pytest.raises(DocumentError, match="cannot be made: FPDFException"):
        await InvoiceMaker(templates).attachment(claim(), invoice(**OURS))
