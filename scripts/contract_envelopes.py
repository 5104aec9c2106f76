"""The JSON Schemas around the data: the envelope in each content mode, as JSON and as headers."""

from typing import Any

from contract_schemas import DATA, components

from pipeline.events import DATA_SCHEMAS, SPEC_VERSION, Attributes
from pipeline.ingest.content_mode import JSON_TYPE
from pipeline.ingest.decoder import IDENTITY_HEADER
from pipeline.settings import IntakeSettings

PREFIXES = ("ce-", "cloudEvents:", "cloudEvents_")
_PREFIXED = f"^({'|'.join(PREFIXES)})"
_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]+$"


def component_schemas() -> dict[str, Any]:
    """Return every schema that messages refer to, by name."""
    found = components([*DATA.values()], "#/components/schemas/{name}")
    for event_type, kind in DATA.items():
        attributes = _attributes(event_type)
        found[f"{kind.__name__}Event"] = _event_schema(event_type, attributes)
        found[f"{kind.__name__}Headers"] = _headers_schema(attributes)
    found["EventBatch"] = {
        "description": "At most intake.message_events_max events; here its default.",
        "type": "array",
        "items": {"oneOf": [ref(f"{kind.__name__}Event") for kind in DATA.values()]},
        "maxItems": IntakeSettings().message_events_max,
    }
    key = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": _PRINTABLE}
    found["PlainHeaders"] = {
        "description": f"Without `{IDENTITY_HEADER}` an order is known by its order_id, an invoice by that "
        "and its invoice_id. A header that begins like a CloudEvents attribute makes it binary mode.",
        "type": "object",
        "propertyNames": {"not": {"pattern": _PREFIXED}},
        "properties": {IDENTITY_HEADER: key},
    }
    return found


def _attributes(event_type: str) -> dict[str, dict[str, Any]]:
    """Return the schemas of an event type's attributes."""
    attributes = components([Attributes], "")["Attributes"]["properties"]
    for name in ("id", "source"):
        attributes[name]["pattern"] = _PRINTABLE
    attributes["specversion"]["const"] = SPEC_VERSION
    attributes["datacontenttype"]["enum"] = [JSON_TYPE, None]
    attributes["dataschema"]["enum"] = [DATA_SCHEMAS[event_type], None]
    return {"type": {"type": "string", "const": event_type}, **attributes}


def _event_schema(event_type: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the envelope in the JSON format: data as JSON, or as base64 of JSON."""
    return {
        "title": f"{DATA[event_type].__name__}Event",
        "description": f"CloudEvent of type `{event_type}`. Extension attributes are ignored.",
        "type": "object",
        "properties": {
            **attributes,
            "data": ref(DATA[event_type].__name__),
            "data_base64": {
                "description": "The data's JSON in base64: standard alphabet, padded.",
                "type": "string",
                "contentEncoding": "base64",
                "contentMediaType": JSON_TYPE,
            },
        },
        "required": ["specversion", "type", "source", "id"],
        "oneOf": [{"required": ["data"]}, {"required": ["data_base64"]}],
        "additionalProperties": True,
    }


def _headers_schema(attributes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the attributes as headers. A header that is there has a value."""
    needed = ("specversion", "type", "source", "id")
    return {
        "description": "CloudEvents attributes as headers. The prefix is the publisher's choice.",
        "type": "object",
        "patternProperties": {
            f"{_PREFIXED}{name}$": _without_null(schema) for name, schema in attributes.items()
        },
        "anyOf": [{"required": [prefix + name for name in needed]} for prefix in PREFIXES],
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in schema.items() if key != "default"} | {"type": "string"}
    if "enum" in found:
        found["enum"] = [value for value in found["enum"] if value is not None]
    return found


def ref(name: str) -> dict[str, str]:
    """Return the reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}
