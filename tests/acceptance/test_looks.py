"""How mails and the page for unsubscribing look in Chromium: phone and desktop, light and dark."""

from pathlib import Path

import pytest
from chromium import chromium, looks

from consumers.public.unsubscribe_page import UnsubscribePage
from pipeline.notifications.mail.samples import SAMPLE_URL, sample_variants
from pipeline.notifications.mail.templates import Templates
from pipeline.storage.outbox import Kind

pytestmark = [
    pytest.mark.looks,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium"),
]
PHONE_PX, DESKTOP_PX = 375, 1024


def mails() -> dict[str, str]:
    templates = Templates(shop="Postorder Shop")
    return {
        f"{kind} {language} {variant}": templates.read(claim, SAMPLE_URL).html
        for kind in (Kind.ORDER_EMAIL, Kind.INVOICE_EMAIL)
        for language in templates.languages
        for variant, claim in sample_variants(kind, language).items()
    }


def pages() -> dict[str, str]:
    return {
        f"unsubscribe {language} {step} {shop}": page.page(step, language)[1]
        for shop in ("Postorder Shop", "W" * 60)
        for page in [UnsubscribePage(shop)]
        for language in page.languages
        for step in ("ask", "done", "wrong")
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE_PX, DESKTOP_PX])
def test_every_mail_and_page_can_be_read(width: int, scheme: str, tmp_path: Path) -> None:
    wanted = {**mails(), **pages()}
    found = looks(wanted, width=width, scheme=scheme, folder=tmp_path)
    assert [look.name for look in found] == list(wanted)
    assert {(look.width, look.scheme) for look in found} == {(width, scheme)}
    assert min(look.texts for look in found) >= 3
    wrong = [look for look in found if look.faint or look.wide or look.small]
    assert not wrong, wrong


BAD = f"""
<meta name="color-scheme" content="light dark">
<body style="background:#fff;color:#000;margin:0">
<p style="color:#999">faint</p>
<p style="color:#666">plain</p>
<p style="white-space:nowrap">wide {"wide " * 100}</p>
<div style="background:#000;color:#333">faint too</div>
<div style="overflow:hidden;width:50px">{"cut" * 30}</div>
<a href="#" style="font-size:12px;color:#00c">small</a>
"""


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    (look,) = looks({"bad": BAD}, width=PHONE_PX, scheme="light", folder=tmp_path)
    assert [one.split()[0] for one in look.faint] == ["p", "div"]
    assert [one.split()[0] for one in look.wide] == ["p", "div", "page"]
    assert [one.split()[0] for one in look.small] == ["a"]
