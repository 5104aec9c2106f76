"""Quoted-printable: whatever the pieces, no line has more than the 76 characters of RFC 2045 6.7."""

import quopri

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.notifications.mail.quoted_printable import LINE_CHARS_MAX, encode, encode_piece, join
from pipeline.notifications.mail.skeleton import Skeleton, mark

# What fills a line to its last character is rare among texts of any kind, so it is what is mostly tried.
FULL = st.builds(lambda start, length, end: start + "x" * length + end, *(
    st.sampled_from(["", "=", "é", " ", "\n", "a b\r\n"]),
    st.integers(55, 240),
    st.sampled_from(["", "=", "é", "😀", " ", "\t", ".", "\n"]),
))  # fmt: skip
ANY = st.text(alphabet=st.characters(codec="utf-8"), max_size=120)
TEXTS = st.lists(FULL | ANY | st.text(alphabet="a =.\té\n", max_size=160), max_size=6)


def check(encoded: bytes, text: str) -> None:
    lines = encoded.split(b"\r\n")
    assert max(map(len, lines)) <= LINE_CHARS_MAX
    assert not any(line.endswith((b" ", b"\t")) for line in lines)
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    plain = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    assert quopri.decodestring(encoded).decode() in {plain, plain + "\r\n"}


@settings(deadline=None, max_examples=150)
@example(["x" * 76, "y"])
@example(["x" * 151, ""])
@example(["x" * 73 + "=", "y"])
@given(TEXTS.map(lambda texts: [text.replace("\r", "") for text in texts]))
def test_pieces_in_any_order(texts: list[str]) -> None:
    out: list[bytes] = []
    column = 0
    for text in texts:
        column = join(out, column, encode_piece(text))
    check(b"".join(out), "".join(texts))


@settings(deadline=None, max_examples=150)
@example(["x" * 76, "y"], "")
@given(TEXTS, FULL)
def test_a_skeleton_with_any_values(values: list[str], fixed: str) -> None:
    texts = [value.replace("\r", "") for value in values]
    skeleton = Skeleton(fixed.replace("\r", "").join(["", *map(mark, range(len(texts))), ""]))
    check(skeleton.encoded(list(map(encode_piece, texts))), skeleton.text(texts))


@settings(deadline=None, max_examples=150)
@example("x" * 76)
@given(FULL | ANY)
def test_a_whole_text(text: str) -> None:
    check(encode(text), text)
