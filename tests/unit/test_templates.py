"""Templates: which one is taken, how amounts are written, what an operator may put in their place."""

import quopri
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from babel import Locale
from babel.numbers import format_currency, get_currency_precision
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mail_reading import claim, invoice, plain, read_back, templates
from typer.testing import CliRunner

from consumers.cli import app
from pipeline.errors import RejectedError, SettingsError
from pipeline.notifications.mail.lint import check, lint
from pipeline.notifications.mail.locales import Locales, plural_form
from pipeline.notifications.mail.quoted_printable import LINE_CHARS_MAX, encode_piece, join
from pipeline.notifications.mail.samples import sample_claim, sample_variants
from pipeline.notifications.mail.sandbox import RENDERED_CHARS_MAX
from pipeline.notifications.mail.templates import Templates
from pipeline.settings import SmsSettings
from pipeline.storage.outbox import Kind

LANGUAGES = ["de", "en", "es", "fr", "hi", "kk"]
locales = Locales(["en", "de", "fr", "fr-CA", "hi"], "de")


def own(folder: Path, **files: str) -> Templates:
    for name, source in files.items():
        file = folder / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    return Templates(shop="Shop", folder=folder)


def test_what_is_shipped_is_whole_and_rendered_once_per_shape() -> None:
    assert templates.languages == LANGUAGES
    assert lint(templates, SmsSettings()) == []
    assert templates.rendered_each_time == []


@pytest.mark.parametrize("locale", LANGUAGES)
@pytest.mark.parametrize("kind", [Kind.ORDER_EMAIL, Kind.INVOICE_EMAIL])
def test_every_variant_reads_the_same_by_skeleton(kind: Kind, locale: str) -> None:
    for order in sample_variants(kind, locale).values():
        mail, by_jinja = read_back(templates.email(order, "ada@example.com", ())), templates.read(order)
        assert mail["Subject"] == by_jinja.subject
        assert plain(mail, "plain").rstrip() == by_jinja.text.rstrip()
        assert plain(mail, "html").rstrip() == by_jinja.html.rstrip()


@pytest.mark.parametrize(
    ("wanted", "chain", "format_of"),
    [
        ("fr-CA", ["fr-CA", "fr", "de", "en"], "fr_CA"),
        ("fr-BE", ["fr", "de", "en"], "fr_BE"),
        ("FR_ca", ["fr-CA", "fr", "de", "en"], "fr_CA"),
        ("en-IN", ["en", "de"], "en_IN"),
        ("ja", ["de", "en"], "de"),
        (None, ["de", "en"], "de"),
        ("../../en", ["de", "en"], "de"),
        ("en" * 40, ["de", "en"], "de"),
        ("en-", ["de", "en"], "de"),
        ("en\n", ["de", "en"], "de"),
    ],
)
def test_which_language_and_format(wanted: str | None, chain: list[str], format_of: str) -> None:
    assert locales.chain(wanted) == chain
    style = locales.find(wanted)
    assert (style.language, str(style.locale)) == (chain[0], format_of)


@settings(max_examples=60, deadline=None)
@given(
    tag=st.sampled_from(["en", "de", "de-AT", "de-CH", "hi", "en-IN", "fr"]),
    currency=st.sampled_from(["EUR", "USD", "JPY", "INR", "GBP", "CHF"]),
    cents=st.integers(0, 10**15),
)
def test_amounts_are_written_as_babel_writes_them(tag: str, currency: str, cents: int) -> None:
    style = locales.find(tag)
    places = get_currency_precision(currency)
    amount = Decimal(cents).scaleb(-places)
    expected = format_currency(amount, currency, locale=style.locale)
    expected = (
        expected.replace("CHF", "CHF\xa0").replace("\xa0\xa0", "\xa0") if expected[0] == "C" else expected
    )
    assert style.money(f"{amount:f}", currency).replace("JP¥", "¥") == expected.replace("JP¥", "¥")


def test_no_digit_of_an_amount_is_lost() -> None:
    style = locales.find("en")
    amounts = {
        "1": "€1.00",
        "1.5": "€1.50",
        "1.2345": "€1.2345",
        "0.1000": "€0.10",
        "1000000": "€1,000,000.00",
    }
    assert {amount: style.money(amount, "EUR") for amount in amounts} == amounts
    assert style.money("1.5", "JPY") == "¥1.5"
    assert Locale("en").currency_symbols["KZT"] == "KZT"
    assert style.money("5", "KZT") == "KZT\xa05.00"
    # The CLDR has a decimal point of its own for amounts there, which Babel 2.18 does not look at.
    assert locales.find("fr-CH").money("1234.5", "CHF") == "1\u202f234.50\xa0CHF"
    assert style.plain_money("5", "INR") == "INR\xa05.00"


@pytest.mark.parametrize(
    ("language", "forms"),
    [
        ("en", "other one other other"),
        ("fr", "one one other other"),
        ("pl", "many one few many"),
        ("xx", "other one other other"),
    ],
)
def test_counts_have_the_plural_forms_of_the_language(language: str, forms: str) -> None:
    assert [plural_form(language, count) for count in (0, 1, 2, 5)] == forms.split()


def test_a_template_asks_for_the_form_and_is_rendered_once(tmp_path: Path) -> None:
    forms = "{% if invoice_count_form == 'one' %}one{% else %}{{ invoice_count_form }}{% endif %}"
    mine = own(tmp_path, en__order_email_dot_txt=f"{forms}: {{{{ invoices }}}}")
    assert mine.rendered_each_time == []
    numbers = [invoice(number=number) for number in ("A", "B", "C")]
    for count, expected in [(1, "one: A"), (2, "other: A and B"), (3, "other: A, B, and C")]:
        mail = read_back(mine.email(claim(invoices=tuple(numbers[:count])), "ada@example.com", ()))
        assert plain(mail, "plain").strip() == expected


@settings(deadline=None, max_examples=60)
@example(["a "])
@example(["x" * 60, " ", "y" * 60])
@given(
    st.lists(
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=90), max_size=12
    )
)
def test_pieces_of_quoted_printable_make_the_whole(texts: list[str]) -> None:
    out: list[bytes] = []
    column = 0
    for text in texts:
        column = join(out, column, encode_piece(text))
    encoded = b"".join(out)
    assert quopri.decodestring(encoded).decode() == "".join(texts)
    assert max(map(len, encoded.split(b"\r\n"))) <= LINE_CHARS_MAX
    assert not any(line.endswith((b" ", b"\t")) for line in encoded.split(b"\r\n"))


def test_ones_own_templates_stand_over_those_shipped(tmp_path: Path) -> None:
    mine = own(
        tmp_path,
        layout_dot_html='{% extends "shipped/layout.html" %}{% block title %}mine{% endblock %}',
        en__order_email_dot_subject_dot_txt="Mine {{ number }}",
        **{"fr-CA__order_email_dot_subject_dot_txt": "La mienne {{ number }}"},
    )
    check(mine)
    assert mine.read(sample_claim(Kind.ORDER_EMAIL, "en")).subject == "Mine 1001"
    assert mine.read(sample_claim(Kind.ORDER_EMAIL, "fr-CA")).subject == "La mienne 1001"
    assert "Thank you, Ada!" in mine.read(sample_claim(Kind.ORDER_EMAIL, "en")).html
    assert mine.read(sample_claim(Kind.ORDER_EMAIL, "fr-CA")).text.startswith("Bonjour")


def test_a_language_that_is_not_whole_is_named(tmp_path: Path) -> None:
    mine = own(tmp_path, it__order_email_dot_txt="Ciao")
    problems = lint(mine, SmsSettings())
    assert "template it/order_email.html: is missing" in problems
    assert not any("it/order_email.txt" in problem for problem in problems)
    with pytest.raises(SettingsError, match="no such folder"):
        Templates(shop="Shop", folder=tmp_path / "none")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ name|upper }} {{ total }}", "ADA €74.40"),
        ("{% if name == 'Ada' %}yes{% endif %}", "yes"),
        ("{% set n = name %}{{ n|lower }}", "ada"),
        ("{% macro m(x) %}{{ x|length }}{% endmacro %}{{ m(name) }}", "3"),
        (
            "{% for line in lines %}{% if line.quantity > 1 %}{{ line.title }}{% endif %}{% endfor %}",
            "Blue Train",
        ),
        ("{{ lines|length }}", "1"),
        ("{{ lines }}", "[{'quantity': 2, 'title': 'Blue Train', 'amount': '€59.90'}]"),
        ("{{ lines[0].title }}", "Blue Train"),
        ("{% for l in lines %}{{ l.title }}{% endfor %}", "Blue Train"),
        ("{{ name or number }}", "Ada"),
        ("{{ [name, number]|join('-') }}", "Ada-o-1"),
        ("{% filter upper %}{{ name }}{% endfilter %}", "ADA"),
        ("{{ name ~ number|upper }}", "AdaO-1"),
    ],
)
def test_a_template_that_does_more_with_values_is_rendered_each_time(
    tmp_path: Path, source: str, expected: str
) -> None:
    mine = own(tmp_path, en__order_email_dot_txt=source)
    assert mine.rendered_each_time == ["en/order_email.txt"]
    for name in ("Ada", "Bob"):
        mail = read_back(mine.email(claim(customer_name=name), "ada@example.com", ()))
        if name == "Ada":
            assert plain(mail, "plain").strip() == expected
        assert plain(mail, "plain").strip() == mine.read(claim(customer_name=name)).text.strip()


@pytest.mark.parametrize(
    "source",
    [
        '{{ "x" ~ name if name else "y" }}',
        "{% for line in lines %}{{ loop.index }}: {{ line.title }}{% endfor %}",
        "{% if not name and invoice_count > 1 %}{{ number }}{% elif lines %}{{ total }}{% endif %}",
    ],
)
def test_a_template_that_writes_values_only_is_rendered_once(tmp_path: Path, source: str) -> None:
    mine = own(tmp_path, en__order_email_dot_txt=source)
    assert mine.rendered_each_time == []
    for changes in ({}, {"customer_name": None}, {"lines": "[]"}, {"customer_name": "<&>"}):
        mail = read_back(mine.email(claim(**changes), "ada@example.com", ()))
        assert plain(mail, "plain").strip() == mine.read(claim(**changes)).text.strip()


def test_a_variable_more_than_a_template_needs_does_no_harm(tmp_path: Path) -> None:  # item 216
    assert own(tmp_path, en__order_email_dot_txt="Hello").read(claim()).text == "Hello\n"


def test_a_template_that_changes_is_read_when_the_process_starts(tmp_path: Path) -> None:  # item 228
    mine = own(tmp_path, en__order_email_dot_txt="{{ name|upper }} before")
    (tmp_path / "en/order_email.txt").write_text("after")
    assert mine.read(claim()).text == "ADA before\n"


def test_a_part_is_bounded(tmp_path: Path) -> None:  # item 244
    mine = own(tmp_path, en__order_email_dot_txt="{% for x in range(9) %}{{ 'x' * 100000 }}{% endfor %}")
    with pytest.raises(RejectedError, match=f"over {RENDERED_CHARS_MAX} characters"):
        mine.email(claim(), "ada@example.com", ())


def test_only_so_many_shapes_are_kept() -> None:
    line = {"sku": "a", "quantity": 1, "unit_price": "1"}
    shapes = [(lines, name, invoices) for lines in range(51) for name in ("", "x") for invoices in range(3)]
    for lines, name, invoices in shapes:
        order = claim(
            lines=orjson.dumps([line] * lines).decode(),
            customer_name=name,
            invoices=(invoice(),) * invoices,
        )
        templates.email(order, "a@example.com", ())
    kept = [len(part._skeletons) for part in templates._parts.values()]
    assert 0 < max(kept) <= 256 < len(shapes)


def test_the_commands(tmp_path: Path) -> None:
    run = CliRunner().invoke
    settings = tmp_path / "postorder.toml"
    settings.write_text('[[shards]]\nname = "s"\nprimary = "postgresql://u@h/d"\n')
    result = run(app, ["templates", "lint", "--config", str(settings)])
    assert (result.exit_code, "nothing is wrong" in result.output) == (0, True)
    out = tmp_path / "out"
    arguments = ["--kind", "order_email", "--locale", "de", "--out", str(out), "--config", str(settings)]
    assert run(app, ["templates", "preview", *arguments]).exit_code == 0
    assert {path.suffix for path in out.iterdir()} == {".eml", ".txt", ".html"}
    assert "Vielen Dank, Jürgen!" in (out / "order_email.de.html").read_text()
