"""Mapping files: the ones that are shipped, and one's own."""

import json
from pathlib import Path

import msgspec
import pytest
from upstream_documents import ADAPTERS, decoder

from consumers.event_files import as_delivery
from pipeline.adapters.mapping import Adapter, builtin_adapters, load_adapter
from pipeline.errors import EventError, SettingsError

MINE = """
about = "ours"
[[rules]]
name = "sale"
event = "order.processed"
id = { from = "no", as = "id" }
source = { default = "urn:ours", as = "id" }
[rules.data]
order_id = { from = "{kind}-{no}", as = "id" }
currency = { default = "eur", as = "currency" }
total = { from = "sum", as = "major_float" }
processed_at = { from = "at", as = "time", offset = "+02:00" }
[rules.customer]
email = { from = "contacts[kind=mail].value", as = "text" }
"""


def mine(tmp_path: Path, text: str) -> Adapter:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_adapter(str(path))


def test_a_mapping_of_ones_own(tmp_path: Path) -> None:
    contacts = [{"kind": "fax", "value": "1"}, {"kind": "mail", "value": "a@example.com"}]
    document = {"no": 7, "kind": "web", "sum": 19.99, "at": "2026-01-31T09:30:00", "contacts": contacts}
    adapter = mine(tmp_path, MINE)
    assert adapter.name == "mine"
    assert adapter.about == "ours"
    (body,) = adapter.adapt(json.dumps(document).encode())
    assert msgspec.to_builtins(decoder.decode(as_delivery(body)).event.data) == {
        "order_id": "web-7",
        "currency": "EUR",
        "total": "19.99",
        "processed_at": "2026-01-31T09:30:00+02:00",
        "customer": {"email": "a@example.com"},
        "lines": [],
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('about = "ours"', "about = ours", "not valid TOML"),
        ('about = "ours"', "", "file: Object missing required field `about`"),
        ('about = "ours"', 'about = "ours"\nspeed = 1', "file: Object contains unknown field `speed`"),
        ('"sale"', "7", "rules[0].name: Expected `str`, got `int`"),
        ("order.processed", "order.shipped", "rules[0].event: Invalid enum value"),
        ('total = { from = "sum", as = "major_float" }', "", "rules.sale.data.total: is missing"),
        (
            '"major_float"',
            '"text"',
            "rules.sale.data.total.as: must be one of money, minor_units, major_float",
        ),
        ('from = "sum",', "", "rules.sale.data.total: needs `from`, `default` or both"),
        ('from = "sum"', 'from = "sum..x"', "rules.sale.data.total.from: 'sum..x' is no path"),
        ('from = "sum"', 'from = "{sum"', "rules.sale.data.total.from: '{sum' has a brace"),
        ('from = "at"', 'from = "at[*]"', "rules.sale.data.processed_at.from: [*] is for amounts"),
        ('"+02:00"', '"CET"', "rules.sale.data.processed_at.offset:"),
        ('"eur"', '"euro"', "rules.sale.data.currency.default: must be three letters"),
        ("email =", "fax =", "rules.sale.customer.fax: no such key"),
        (
            'as = "major_float"',
            'as = "major_float", round_to = 2',
            "rules.sale.data.total.round_to: is for the unit",
        ),
        (
            'as = "text" }',
            'as = "text", paired_with = "phone" }',
            "rules.sale.customer.email.paired_with: must name",
        ),
        ("[rules.data]", 'when = [{ path = "x" }]\n[rules.data]', "rules.sale.when[0]: needs exactly one of"),
        ("[rules.customer]", "[rules.document]\n", "rules.sale.document: order.processed has no such table"),
        ("[rules.customer]", '[rules.lines]\neach = "x"\n', "rules.sale.lines.sku: is missing"),
    ],
)
def test_a_bad_mapping_is_told_by_file_and_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert MINE.count(old) == 1
    with pytest.raises(SettingsError) as caught:
        mine(tmp_path, MINE.replace(old, new))
    assert any(problem.startswith(f"{tmp_path / 'mine.toml'}: {said}") for problem in caught.value.problems)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        mine(tmp_path, MINE.replace('"sum"', '"."').replace("email", "fax").replace("eur", "euro"))
    assert len(caught.value.problems) == 3


def test_names_and_files(tmp_path: Path) -> None:
    assert builtin_adapters() == ["saleor", "shopify", "square", "stripe", "woocommerce"]
    assert repr(ADAPTERS["saleor"]) == "<Adapter saleor: order, invoice>"
    with pytest.raises(SettingsError, match="neither a mapping file"):
        load_adapter("magento")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_adapter(str(tmp_path / "none.toml"))


def test_the_example_of_the_how_to(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "publish-from-another-system.md"
    example = page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    sale = {"status": "Done", "no": 5, "changed": 2, "currency": "jpy", "sum_cents": 500}
    sale |= {"opened": "2026-01-01T10:00:00", "items": [{"id": 1, "count": "2", "price_cents": 250}]}
    (body,) = mine(tmp_path, example).adapt(json.dumps(sale).encode())
    data = msgspec.to_builtins(decoder.decode(as_delivery(body)).event.data)
    assert data["total"] == "500"
    assert data["processed_at"] == "2026-01-01T10:00:00+01:00"
    assert data["lines"] == [{"sku": "item-1", "quantity": 2, "unit_price": "250"}]


INVOICE = """
[[rules]]
name = "{name}"
event = "invoice.generated"
when = [{{ path = "file", exists = {there} }}]
id = {{ from = "no", as = "id" }}
source = {{ default = "urn:ours", as = "id" }}
[rules.data]
invoice_id = {{ from = "no", as = "id" }}
order_id = {{ from = "order", as = "id" }}
currency = {{ default = "eur", as = "currency" }}
total = {{ from = "sum", as = "money" }}
issued_at = {{ from = "at", as = "time" }}
"""
DOCUMENT = '[rules.document]\nurl = { from = "file", as = "url" }\n'
WITH_DOCUMENT = INVOICE.format(name="with its file", there="true") + DOCUMENT
WITHOUT_DOCUMENT = INVOICE.format(name="without a file", there="false")


def test_an_invoice_may_have_no_document(tmp_path: Path) -> None:
    """The customer gets a PDF made from the order then; the event names none."""
    adapter = mine(tmp_path, 'about = "ours"\n' + WITH_DOCUMENT + WITHOUT_DOCUMENT)
    invoice = {"no": 1, "order": 7, "sum": "19.99", "at": "2026-01-31T09:30:00Z"}
    documents = []
    for record in ({**invoice, "file": "https://example.com/1.pdf"}, {**invoice, "file": None}):
        (body,) = adapter.adapt(json.dumps(record).encode())
        event = decoder.decode(as_delivery(body)).event
        documents.append(event.data.document and event.data.document.url)
    assert documents == ["https://example.com/1.pdf", None]


def test_a_document_that_is_mapped_is_needed(tmp_path: Path) -> None:
    """The system's own may be the one that counts: it is not replaced unseen by one made from the order."""
    always = WITH_DOCUMENT.replace('when = [{ path = "file", exists = true }]', "")
    adapter = mine(tmp_path, 'about = "ours"\n' + always)
    invoice = {"no": 1, "order": 7, "sum": "19.99", "at": "2026-01-31T09:30:00Z"}
    with pytest.raises(EventError, match="nothing is at `file`"):
        adapter.adapt(json.dumps(invoice).encode())


def test_an_empty_table_of_a_document_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="document: needs `url` or `content_base64`"):
        mine(tmp_path, 'about = "ours"\n' + WITHOUT_DOCUMENT + "[rules.document]\n")
