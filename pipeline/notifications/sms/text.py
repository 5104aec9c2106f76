"""A rendered text made fit for the air: one line, no control characters, no more segments than allowed."""

import re
import unicodedata
from typing import Final

from pipeline.errors import RejectedError
from pipeline.notifications.sms.segments import is_gsm7, measure

# Typographic marks and the plain ones in their place. Letters are left alone: a name keeps its accents.
_PLAIN: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2035\u02bc`\u00b4", "'"),  # quotes, primes, accents
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),  # double quotes, guillemets
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),  # hyphens, dashes, minus
        **dict.fromkeys("\u2022\u00b7\u2219", "-"),  # bullets
        "\u2039": "<",
        "\u203a": ">",
        "\u2026": "...",
        "\u2044": "/",
        "\u00d7": "x",
    }
)
# Invisible, but they join letters of Indic scripts and parts of emoji. Elsewhere they only cost.
_JOINERS: Final = frozenset("\u200c\u200d")
_JOINED: Final = frozenset({"Lo", "Mn", "Mc", "So", "Sk"})
_SELECTORS: Final = frozenset("\ufe0e\ufe0f")  # "as text", "as emoji": invisible marks
_TAIL_SHARE: Final = 0.5  # a last word is cut through rather than that more than this share is lost


class TextShaper:
    """Shapes texts. `plain_marks`: typographic marks become plain where the whole then is 7-bit text."""

    def __init__(self, *, segments_max: int, plain_marks: bool) -> None:
        self._segments_max = segments_max
        self._plain_marks = plain_marks

    def shape(self, text: str) -> str:
        """Return the text to send. Raises RejectedError with code `empty_text` when nothing is left."""
        if not (text.isascii() and text.isprintable()):
            text = _printable(unicodedata.normalize("NFC", text))
        if "  " in text or text[:1] == " " or text[-1:] == " ":
            text = " ".join(text.split())
        if not text:
            raise RejectedError("empty_text", "nothing in the text can be shown")
        if self._plain_marks and not is_gsm7(text) and is_gsm7(plain := text.translate(_PLAIN)):
            text = plain
        if measure(text).segments <= self._segments_max:
            return text
        return self._shortened(text)

    def _shortened(self, text: str) -> str:
        """Return the longest beginning that fits with an ellipsis, at a word's end if one is near."""
        low, high = 0, len(text) - 1
        while low < high:  # the first `low` characters are known to fit, and more than `high` not to
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._fits(text[:middle]) else (low, middle - 1)
        end = text.rfind(" ", 0, low + 1)
        if end < low * _TAIL_SHARE:
            end = _whole(text, low)
        return _with_ellipsis(text[:end])

    def _fits(self, beginning: str) -> bool:
        return measure(_with_ellipsis(beginning)).segments <= self._segments_max


def _with_ellipsis(text: str) -> str:
    text = text.rstrip(" ,;:-")
    return f"{text}{'...' if is_gsm7(text) else '…'}"


def _whole(text: str, end: int) -> int:
    """Return the last place at or before `end` where no letter is torn from its marks."""
    while end and (unicodedata.category(text[end])[0] == "M" or text[end] in _JOINERS | _SELECTORS):
        end -= 1
    return end - 1 if end and text[end - 1] in _JOINERS else end


_LINK: Final = re.compile(r"://|@|\bwww\.|\w\.\w{2}", re.IGNORECASE)


def holds_link(text: str) -> bool:
    """Tell whether a phone might make a link of something in a text, such as a name that upstream sends.

    Whoever orders chooses name and number: with a link in the name, our SMS would be his to write.
    """
    return _LINK.search(text) is not None


_SPACES: Final = re.compile(r"\s")


def _printable(text: str) -> str:
    """Return a text without control, format, private and unassigned characters; white space is a space."""
    text = _SPACES.sub(" ", text)
    if text.isprintable():
        return text
    return "".join(
        character
        for place, character in enumerate(text)
        if character.isprintable()
        or (
            character in _JOINERS
            and _is_joined(text[place - 1 : place])
            and _is_joined(text[place + 1 : place + 2])
        )
    )


def _is_joined(neighbour: str) -> bool:
    return bool(neighbour) and unicodedata.category(neighbour) in _JOINED
