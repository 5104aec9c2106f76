"""The JSON Schemas of the events' data.

What the types say comes from msgspec; what they check in `__post_init__` is added here, and a test holds
the result against the decoder, both ways.
"""

from typing import Any

import msgspec

from pipeline.events import (
    CUSTOMER_UPDATED,
    DATA_SCHEMAS,
    INVOICE_GENERATED,
    ORDER_PROCESSED,
    Attributes,
    Consent,
    Customer,
    CustomerUpdated,
    Document,
    InvoiceGenerated,
    Line,
    OrderProcessed,
)

DATA = {
    ORDER_PROCESSED: OrderProcessed,
    INVOICE_GENERATED: InvoiceGenerated,
    CUSTOMER_UPDATED: CustomerUpdated,
}

_NUMBER = "What the customer calls it; without it, the id."
_TOTAL = "Decimal number with a point, as text: never a JSON number."
_CURRENCY = "ISO 4217 code."
_NAME = "How to address the customer."
_EMAIL = "Judged when a mail is sent: a bad address suppresses that mail, and refuses no event."
_PHONE = "Judged when an SMS is sent, like the address. Best in E.164."
_LOCALE = "Language tag such as de-AT."
_COUNTRY = "ISO 3166 code: how to read a phone number that has no country code."
_CONSENT = "`out`: nothing goes out on this channel; `in`: it may again. Absent: as was said before."
# A field that is a struct is described by that struct.
ABOUT: dict[type, dict[str, str]] = {
    OrderProcessed: {
        "order_id": "Unique in the installation. The first event of an order makes it.",
        "currency": _CURRENCY,
        "total": _TOTAL,
        "processed_at": "RFC 3339, with an offset.",
        "customer": "",
        "lines": "What was ordered; may be empty.",
        "number": _NUMBER,
    },
    Customer: {
        "id": "The customer's id in the shop. Without phone or e-mail here, customer.updated's count.",
        "name": _NAME,
        "email": _EMAIL,
        "phone": _PHONE,
        "locale": _LOCALE,
        "country": _COUNTRY,
    },
    Line: {
        "sku": "The article.",
        "quantity": "Pieces. Written without a point: 2, not 2.0.",
        "unit_price": "In the order's currency, as text.",
        "title": "What the customer calls the article.",
    },
    InvoiceGenerated: {
        "invoice_id": "Unique within the order; an order may have several.",
        "order_id": "The order's. The invoice may come first.",
        "currency": _CURRENCY,
        "total": _TOTAL,
        "issued_at": "RFC 3339, with an offset.",
        "document": "",
        "number": _NUMBER,
    },
    Document: {
        "content_base64": "The document: not empty, standard alphabet, padded, without line breaks. "
        "Limited by intake.document_bytes_max.",
        "url": "Where to get it: https, at a host listed in intake.document_hosts.",
        "media_type": "What kind of document it is.",
        "filename": "What the attachment is called.",
    },
    CustomerUpdated: {
        "customer_id": "The customer's id in the shop: `customer.id` of orders.",
        "updated_at": "RFC 3339, with an offset. The latest counts, in whatever order they come.",
        "name": _NAME,
        "email": _EMAIL,
        "phone": _PHONE,
        "locale": _LOCALE,
        "country": _COUNTRY,
        "consent": "",
    },
    Consent: {"sms": _CONSENT, "email": _CONSENT},
    Attributes: {
        "specversion": "CloudEvents' version.",
        "id": "With `source` the identity: the same again with the same data is a duplicate.",
        "source": "Who publishes.",
        "time": "When it happened; latencies are measured from it.",
        "datacontenttype": "The data's content type.",
        "dataschema": "The data's schema, if it is to be checked.",
    },
}

_KEYS = ("order_id", "invoice_id", "customer_id")
_KEY = "^[!-~]+$"
_TIME = (
    "^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]"
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)


def _one_of_them(*names: str) -> dict[str, Any]:
    """Return the rule that exactly one of some fields has a value; null is none."""
    text = {"type": "string"}
    return {"oneOf": [{"required": [name], "properties": {name: text}} for name in names]}


def components(kinds: list[type], ref_template: str) -> dict[str, dict[str, Any]]:
    """Return the schemas of some structs and of those within them, by name."""
    _, found = msgspec.json.schema_components(kinds, ref_template=ref_template)
    by_name = {kind.__name__: kind for kind in ABOUT}
    for name, schema in found.items():
        about = ABOUT[by_name[name]]
        fields = schema["properties"]
        assert fields.keys() == about.keys(), f"{name}: describe exactly its fields"
        schema["properties"] = {field: _field(field, about[field], rules) for field, rules in fields.items()}
        if not schema["required"]:
            del schema["required"]
        schema["additionalProperties"] = True
    if "Document" in found:
        found["Document"] |= _one_of_them("content_base64", "url")
        found["Document"]["properties"]["content_base64"]["contentEncoding"] = "base64"
    return found


def _field(name: str, about: str, rules: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field with its description, and with the rules that structs check themselves."""
    field = {"description": about, **rules} if about else dict(rules)
    if "anyOf" in field and "$ref" not in field["anyOf"][0]:
        # A text or null: the text's rules do not touch null.
        text, _ = field.pop("anyOf")
        field |= {**text, "type": [text["type"], "null"]}
    if "pattern" in field:
        field["pattern"] = field["pattern"].replace(r"\A", "^").replace(r"\Z", "$")  # as ECMA 262 has them
    if field.get("format") == "date-time":
        field["pattern"] = _TIME
    if name in _KEYS:
        field["pattern"] = _KEY
    return field


def data_schema(event_type: str) -> dict[str, Any]:
    """Return the JSON Schema of an event type's data."""
    kind = DATA[event_type]
    parts = components([kind], "#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": DATA_SCHEMAS[event_type],
        "$comment": "Made by scripts/render_contract.py from pipeline/events.py. Do not edit. "
        "What a schema cannot say is in docs/reference/events.md.",
        **parts.pop(kind.__name__),
        "title": event_type,
        "$defs": parts,
    }
