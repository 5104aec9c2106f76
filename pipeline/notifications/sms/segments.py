"""What a text takes on the air: 3GPP TS 23.038's 7-bit alphabet where it suffices, UCS-2 where it does not.

A message of several segments spends six octets of each on a header that says how to join them.
"""

import re
from typing import Final, NamedTuple

_ALPHABET: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPED: Final = "\f^{}\\[~]|€"  # of the extension table: an escape before each
_IN_ALPHABET: Final = re.compile(f"[{re.escape(_ALPHABET + _ESCAPED)}]*")
_ESCAPES: Final = re.compile(f"[{re.escape(_ESCAPED)}]")
_ASTRAL: Final = re.compile("[\U00010000-\U0010ffff]")

_SEPTETS_ALONE, _SEPTETS_PART = 160, 153
_UNITS_ALONE, _UNITS_PART = 70, 67


class Extent(NamedTuple):
    """How long a text is. `units`: septets, or UTF-16 code units."""

    is_gsm7: bool
    units: int
    segments: int


def is_gsm7(text: str) -> bool:
    """Tell whether the 7-bit alphabet and its extension table suffice."""
    return _IN_ALPHABET.fullmatch(text) is not None


def measure(text: str) -> Extent:
    """Return what a text takes; nothing takes one segment."""
    if is_gsm7(text):
        return _measure(text, _ESCAPES, _SEPTETS_ALONE, _SEPTETS_PART, gsm7=True)
    return _measure(text, _ASTRAL, _UNITS_ALONE, _UNITS_PART, gsm7=False)


def _measure(text: str, double: re.Pattern[str], alone: int, part: int, *, gsm7: bool) -> Extent:
    doubles = [found.start() for found in double.finditer(text)]
    units = len(text) + len(doubles)
    if units <= alone:
        return Extent(gsm7, units, 1)
    # What takes two units is never torn apart: a segment that would end between them ends one unit sooner.
    lost = 0
    for before, place in enumerate(doubles):
        lost += (place + before + lost) % part == part - 1
    return Extent(gsm7, units, -(-(units + lost) // part))
