"""An invoice as PDF, for those that upstream sends without a document. Made from the order: it states no tax.

Text of Windows-1252 is set in Helvetica, which every reader has: 13 ms. Other text takes Noto Sans with
Devanagari, of which the letters used are put into the file: 120 to 180 ms. A letter of yet another script
has no picture here, and becomes a question mark.
"""

from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.enums import TableBordersLayout, VAlign, XPos, YPos
from fpdf.fonts import FontFace

from pipeline.notifications.mail.invoice import Invoice

_FONTS = Path(__file__).parent / "fonts"
_REGULAR, _BOLD = _FONTS / "NotoSans-Regular.ttf", _FONTS / "NotoSans-Bold.ttf"
_DEVANAGARI = _FONTS / "NotoSansDevanagari-Regular.ttf"
_DEVANAGARI_BOLD = _FONTS / "NotoSansDevanagari-Bold.ttf"
_MARGIN_MM = 22
_QUIET, _DARK, _RULE = (87, 96, 106), (22, 25, 29), (200, 206, 213)
_COLUMNS = (58, 14, 28)  # per cent of the width


def invoice_pdf(invoice: Invoice) -> bytes:
    """Return the PDF. The same invoice gives the same bytes."""
    page = _page_for(invoice)
    page.set_creation_date(invoice.issued_at)
    page.set_title(page.shown(f"{invoice.labels.title} {invoice.number}"))
    page.set_author(page.shown(invoice.shop))
    page.add_page()
    _head(page, invoice)
    _lines(page, invoice)
    return bytes(page.output())


class _Page(FPDF):
    """A4, with a number at the foot of each page."""

    def __init__(self, family: str, page_label: str) -> None:
        super().__init__(format="A4")
        self.family = family
        self._page_label = page_label
        self.set_margin(_MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=_MARGIN_MM)

    def shown(self, text: str) -> str:
        """Return a text with question marks for what the fonts have no picture of."""
        text = text.replace("\u202f", "\xa0")
        if self.family == _CORE:
            return text
        letters = _letters()
        return "".join(c if ord(c) in letters else "?" for c in text)

    def write_line(
        self, text: str, *, size: float, style: str = "", colour: tuple[int, int, int] = _DARK
    ) -> None:
        """Write a paragraph."""
        self.set_font(self.family, style=style, size=size)
        self.set_text_color(*colour)
        self.multi_cell(0, text=self.shown(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def footer(self) -> None:
        """Write the page's number; called by fpdf."""
        self.set_y(-15)
        self.set_font(self.family, size=9)
        self.set_text_color(*_QUIET)
        self.cell(0, text=self.shown(f"{self._page_label} {self.page_no()} / {{nb}}"), align="L")


_FIRST_DEVANAGARI, _LAST_DEVANAGARI = "\u0900", "\u097f"
_CORE, _OWN = "helvetica", "noto"


def _page_for(invoice: Invoice) -> _Page:
    if all(map(_is_western, invoice.texts())):
        page = _Page(_CORE, invoice.labels.page)
        page.core_fonts_encoding = "windows-1252"
        return page
    page = _Page(_OWN, invoice.labels.page)
    page.add_font(_OWN, fname=_REGULAR)
    page.add_font(_OWN, style="B", fname=_BOLD)
    if any(_FIRST_DEVANAGARI <= letter <= _LAST_DEVANAGARI for text in invoice.texts() for letter in text):
        page.add_font("devanagari", fname=_DEVANAGARI)
        page.add_font("devanagari", style="B", fname=_DEVANAGARI_BOLD)
        page.set_fallback_fonts(["devanagari"], exact_match=False)
    page.set_text_shaping(use_shaping_engine=True)
    return page


def _is_western(text: str) -> bool:
    try:
        text.replace("\u202f", "\xa0").encode("windows-1252")
    except UnicodeEncodeError:
        return False
    return True


@cache
def _letters() -> frozenset[int]:
    return frozenset(letter for path in (_REGULAR, _DEVANAGARI) for letter in TTFont(path).getBestCmap())


def _head(page: _Page, invoice: Invoice) -> None:
    labels = invoice.labels
    page.write_line(invoice.shop, size=11, colour=_QUIET)
    page.ln(3)
    page.write_line(labels.title, size=24, style="B")
    page.ln(4)
    facts = [(labels.number, invoice.number), (labels.order, invoice.order), (labels.date, invoice.date)]
    facts += [(labels.customer, invoice.customer)] if invoice.customer else []
    page.set_font(page.family, size=11)
    with page.table(
        borders_layout=TableBordersLayout.NONE,
        col_widths=(35, 65),
        first_row_as_headings=False,
        line_height=6,
        v_align=VAlign.T,
    ) as table:
        for name, value in facts:
            row = table.row()
            row.cell(page.shown(name), style=FontFace(color=_QUIET))
            row.cell(page.shown(value), style=FontFace(color=_DARK))
    page.ln(8)


def _lines(page: _Page, invoice: Invoice) -> None:
    labels = invoice.labels
    page.set_font(page.family, size=11)
    page.set_draw_color(*_RULE)
    page.set_text_color(*_DARK)
    bold = FontFace(emphasis="BOLD", color=_DARK)
    with page.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        col_widths=_COLUMNS,
        text_align=("LEFT", "RIGHT", "RIGHT"),
        headings_style=FontFace(emphasis="BOLD", color=_QUIET),
        line_height=6.5,
        padding=(1.5, 0, 1.5, 0),
        v_align=VAlign.T,
    ) as table:
        table.row(list(map(page.shown, (labels.item, labels.quantity, labels.amount))))
        for line in invoice.lines:
            table.row(list(map(page.shown, line)))
        total = table.row()
        total.cell(page.shown(labels.total), colspan=2, style=bold, align="LEFT")
        total.cell(page.shown(invoice.total), style=bold)
