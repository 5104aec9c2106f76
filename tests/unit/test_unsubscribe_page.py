"""The page for unsubscribing: its languages, and that what it shows is text."""

import pytest

from consumers.public.unsubscribe_page import UnsubscribePage, preferred_language

LANGUAGES = ("en", "de", "es", "fr", "hi", "kk")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("pl, fr;q=0.5, es;q=0.7", "es"),
        ("en;q=0.1,kk-KZ;q=0.2", "kk"),
        ("HI-in", "hi"),
        ("de;q=0", "en"),
        ("de;q=nonsense, fr;q=0.1", "fr"),
        ("*", "en"),
        ("," * 1000 + "de", "en"),
        ("../../etc/passwd", "en"),
    ],
)
def test_the_page_speaks_the_readers_language(header: str, language: str) -> None:
    assert preferred_language(header, LANGUAGES) == language


def test_every_language_says_everything_and_the_shops_name_is_text() -> None:
    page = UnsubscribePage('<b>Shop</b> & "Co"')
    assert page.languages == LANGUAGES
    for language in LANGUAGES:
        for step in ("ask", "done", "wrong"):
            named, html = page.page(step, language)
            assert named == language
            assert f'<html lang="{language}">' in html
            assert "<b>" not in html
            assert "{shop}" not in html
            assert ("<form" in html) == (step == "ask")
            assert "<script" not in html
