"""Groups E and F of the corpus of bad input, from files: addresses, and what orders and templates say."""

import tomllib
from pathlib import Path

import orjson
import pytest
from email_validator import validate_email
from hypothesis import given, settings
from hypothesis import strategies as st
from mail_reading import ALTERNATIVES, HEADERS, claim, plain, read_back, shape, templates

from pipeline.errors import RecipientRefusedError, SettingsError
from pipeline.notifications.mail import address
from pipeline.notifications.mail.lint import check
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.mail.words import one_line

CORPUS = Path(__file__).parents[1] / "data/corpus"
ADDRESSES = tomllib.loads((CORPUS / "emails.toml").read_text())["case"]
RENDERING = tomllib.loads((CORPUS / "rendering.toml").read_text())


def named(cases: list[dict]) -> list:
    return [pytest.param(case, id=f"{case['item']} {case['name']}") for case in cases]


@pytest.mark.parametrize("case", named(ADDRESSES))
def test_an_address(case: dict) -> None:
    if "address" in case:
        assert address.email_address(case["raw"]) == case["address"]
        return
    with pytest.raises(RecipientRefusedError) as caught:
        address.email_address(case["raw"])
    assert caught.value.code == case["refused"]
    assert case["raw"].strip() == "" or case["raw"].strip() not in str(caught.value)


@settings(deadline=None)
@given(st.from_regex(address._is_plain.__self__, fullmatch=True))
def test_what_is_taken_without_the_library_it_takes_too(text: str) -> None:
    try:
        judged = address._judged(text)
    except RecipientRefusedError:
        judged = None
    try:
        taken = address.email_address(text)
    except RecipientRefusedError:
        taken = None
    assert taken == judged
    if judged is not None:
        assert validate_email(judged, check_deliverability=False).ascii_email == text


@pytest.mark.parametrize("case", named(RENDERING["case"]))
def test_what_a_mail_says(case: dict) -> None:
    line = {
        "sku": case.get("sku", "a"),
        "quantity": 2,
        "unit_price": "29.95",
        "title": case.get("title", "Blue Train"),
    }
    if not line["title"]:
        del line["title"]
    order = claim(
        customer_name=case.get("customer", "Ada"),
        number=case.get("number", "1001"),
        locale=case.get("locale"),
        currency=case.get("currency", "EUR"),
        total=case.get("total", "74.4000"),
        lines=orjson.dumps([line]).decode(),
    )
    mail = read_back(templates.email(order, "ada@example.com", ()))
    assert shape(mail) == (HEADERS, ["ada@example.com"], ALTERNATIVES)
    text, html = plain(mail, "plain"), plain(mail, "html")
    assert mail["Subject"] == case.get("subject", mail["Subject"])
    for found, wanted, unwanted in (
        (text, case.get("text_has", []), case.get("text_lacks", [])),
        (html, case.get("html_has", []), case.get("html_lacks", [])),
    ):
        for words in wanted:
            assert words in found.replace("\xa0", " ").replace("\u202f", " ")
        for words in unwanted:
            assert words not in found
    by_jinja = templates.read(order)
    assert (text.rstrip(), html.rstrip()) == (by_jinja.text.rstrip(), by_jinja.html.rstrip())
    sms = templates.sms(order, "+14155550123").body
    assert sms == one_line(sms)
    assert sms.isprintable()


@pytest.mark.parametrize("case", named(RENDERING["template"]))
def test_what_is_said_of_a_template(case: dict, tmp_path: Path) -> None:
    file = tmp_path / case["file"]
    file.parent.mkdir()
    file.write_text(case["source"])
    with pytest.raises(SettingsError) as caught:
        check(Templates(shop="Shop", folder=tmp_path))
    assert any(case["problem"] in problem for problem in caught.value.problems), caught.value.problems
    assert all("en/order_email" in problem for problem in caught.value.problems), caught.value.problems


def test_there_are_sixty_cases_of_every_item() -> None:
    cases = [*ADDRESSES, *RENDERING["case"], *RENDERING["template"]]
    assert len(cases) >= 60
    items = {case["item"] for case in cases}
    # 216, 228 and 244 have tests of their own: test_templates.py.
    assert items >= set(range(177, 247)) - {216, 228, 244}
