"""The text part of a mail: no line is longer than 72 columns if it can be shorter, and nothing is lost."""

from textwrap import wrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mail_reading import templates

from pipeline.notifications.mail.plain_lines import COLUMNS_MAX, _wrapped, folded
from pipeline.notifications.mail.samples import SAMPLE_URL, sample_variants
from pipeline.notifications.mail.words import VALUES
from pipeline.storage.outbox import Kind

ORDER = ["Ada", "1001", "1 March", "€1.00", "", ""]


def lines_of(quantity: str, title: str, amount: str) -> list[str]:
    _, folded_title, _ = folded([*ORDER, quantity, title, amount])[len(VALUES) :]
    return f"{quantity} x {folded_title}  {amount}".split("\n")


@pytest.mark.parametrize("language", templates.languages)
@pytest.mark.parametrize("kind", [Kind.ORDER_EMAIL, Kind.INVOICE_EMAIL])
def test_no_line_is_longer_than_72_columns(kind: Kind, language: str) -> None:
    for variant, claim in sample_variants(kind, language).items():
        text = templates.read(claim, SAMPLE_URL).text
        long = [line for line in text.splitlines() if len(line) > COLUMNS_MAX and "WWW" not in line]
        assert not long, (variant, long)


def test_values_that_are_short_are_the_same_list() -> None:
    values = [*ORDER, "2", "Blue Train", "€59.90", "1", "Kind of Blue", "€14.50"]
    assert folded(values) is values


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("x" * 60, ["2 x " + "x" * 60 + "  €59.90"]),
        ("x" * 61, ["2 x " + "x" * 61, "    €59.90"]),
        ("ab " * 22 + "ab", ["2 x " + "ab " * 22 + "ab", "    €59.90"]),
        ("ab " * 23 + "ab", ["2 x " + "ab " * 22 + "ab", "    ab  €59.90"]),
        ("", ["2 x   €59.90"]),
    ],
)
def test_where_a_title_is_folded(title: str, expected: list[str]) -> None:
    assert lines_of("2", title, "€59.90") == expected


@given(
    words=st.lists(st.text("abc-é", min_size=1, max_size=80), min_size=1, max_size=12),
    quantity=st.integers(1, 10**6),
    amount=st.text("0123456789.", min_size=1, max_size=70),
)
def test_nothing_is_lost_and_only_what_has_no_space_is_longer(
    words: list[str], quantity: int, amount: str
) -> None:
    lines = lines_of(str(quantity), " ".join(words), amount)
    assert " ".join(lines).split() == [str(quantity), "x", *words, amount]
    for line in lines:
        whole = line.removeprefix(f"{quantity} x ").strip()
        assert len(line) <= COLUMNS_MAX or " " not in whole, line


@settings(deadline=None)
@given(st.lists(st.text(alphabet="abc-\u00e9,.", min_size=1, max_size=40), max_size=12), st.integers(5, 70))
def test_lines_are_broken_as_textwrap_breaks_them(words: list[str], width: int) -> None:
    title = " ".join(words)
    wrapped = wrap(title, width, break_long_words=False, break_on_hyphens=False)
    assert _wrapped(title, width) == (wrapped or [""])
