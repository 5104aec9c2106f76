"""Cuts the fonts of invoices out of Noto Sans: one weight a file, and the letters an invoice may need.

    python scripts/make_invoice_fonts.py

The variable fonts as they come would take fpdf2 seconds a document, these milliseconds. The fonts and their
licence (SIL Open Font License 1.1, no reserved names) go to pipeline/notifications/mail/fonts/.
"""

import shutil
import sys
from pathlib import Path

import fontpkg
from fontTools import subset
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

TARGET = Path(__file__).parents[1] / "pipeline/notifications/mail/fonts"
# Latin, Greek, Cyrillic, Vietnamese, punctuation, currencies, letter-like signs.
LETTERS = "0020-024F,02B0-02FF,0300-036F,0370-03FF,0400-052F,1E00-1EFF,2000-206F,20A0-20CF,2100-214F"
DEVANAGARI = "0020,00A0,0900-097F,200C,200D,20B9,25CC,A8E0-A8FF,0964,0965"
FONTS = [
    ("Noto Sans", 400, LETTERS, "NotoSans-Regular.ttf"),
    ("Noto Sans", 700, LETTERS, "NotoSans-Bold.ttf"),
    ("Noto Sans Devanagari", 400, DEVANAGARI, "NotoSansDevanagari-Regular.ttf"),
    ("Noto Sans Devanagari", 700, DEVANAGARI, "NotoSansDevanagari-Bold.ttf"),
]


def make(family: str, weight: int, ranges: str, name: str) -> None:
    """Write one font."""
    font = instancer.instantiateVariableFont(TTFont(fontpkg.path(family)), {"wght": weight, "wdth": 100})
    options = subset.Options(layout_features=["*"], name_IDs=["*"], notdef_outline=True, hinting=False)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=subset.parse_unicodes(ranges))
    cutter.subset(font)
    # The moment of making is part of the file: without it, the same fonts give the same bytes.
    font.recalcTimestamp = False
    font.save(TARGET / name)
    print(f"{name}: {(TARGET / name).stat().st_size:,} bytes")


def main() -> int:
    """Write all fonts and their licence."""
    TARGET.mkdir(exist_ok=True)
    for font in FONTS:
        make(*font)
    shutil.copy(Path(fontpkg.path("Noto Sans")).parents[1] / "LICENSE", TARGET / "LICENSE")
    return 0


if __name__ == "__main__":
    sys.exit(main())
