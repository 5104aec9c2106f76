"""How many segments a text takes on the air: GSM 03.38 (7 bits) where it fits, UCS-2 where it does not."""

import re
from collections.abc import Iterable
from typing import Final

GSM_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION: Final = "\f^{}\\[~]|€"  # an escape and a character: two septets each

_ALL_BASIC: Final = re.compile(f"[{re.escape(GSM_BASIC)}]*")
_ALL_GSM: Final = re.compile(f"[{re.escape(GSM_BASIC + GSM_EXTENSION)}]*")
_BEYOND_BMP: Final = 0xFFFF

# Units in a message of one segment, and in each segment of a longer one (a header takes the difference).
_GSM_ALONE, _GSM_PART = 160, 153
_UCS2_ALONE, _UCS2_PART = 70, 67


def utf16_length(text: str) -> int:
    """Count UTF-16 code units: a character beyond the basic plane takes two."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def segment_count(text: str) -> int:
    """Return the number of segments, at least one."""
    if _ALL_BASIC.fullmatch(text):
        size = len(text)
        return 1 if size <= _GSM_ALONE else -(-size // _GSM_PART)
    if _ALL_GSM.fullmatch(text):
        return _pack((2 if char in GSM_EXTENSION else 1 for char in text), _GSM_ALONE, _GSM_PART)
    return _pack((2 if ord(char) > _BEYOND_BMP else 1 for char in text), _UCS2_ALONE, _UCS2_PART)


def _pack(widths: Iterable[int], alone: int, part: int) -> int:
    # A two-unit character never straddles two segments, so a segment may end one unit short.
    total, segments, used = 0, 1, 0
    for width in widths:
        total += width
        if used + width > part:
            segments, used = segments + 1, 0
        used += width
    return 1 if total <= alone else segments
