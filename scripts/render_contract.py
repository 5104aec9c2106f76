"""Writes the contract in docs/reference (JSON Schemas, asyncapi.yaml), or checks that it is up to date.

What the types say comes from msgspec; what they check in `__post_init__` is added here, and a test holds
the result against the decoder, both ways.
"""

import json
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import yaml

from consumers import topology
from pipeline.events import (
    DATA_SCHEMAS,
    INVOICE_GENERATED,
    ORDER_PROCESSED,
    SPEC_VERSION,
    Attributes,
    Customer,
    Document,
    InvoiceGenerated,
    Line,
    OrderProcessed,
)
from pipeline.ingest.content_mode import BATCH_TYPE, JSON_TYPE, STRUCTURED_TYPE
from pipeline.ingest.decoder import IDENTITY_HEADER
from pipeline.settings import IntakeSettings

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs/reference"
ASYNCAPI = REFERENCE / "asyncapi.yaml"
DATA = {ORDER_PROCESSED: OrderProcessed, INVOICE_GENERATED: InvoiceGenerated}
NAMES = {ORDER_PROCESSED: "orderProcessed", INVOICE_GENERATED: "invoiceGenerated"}
QUEUES = {ORDER_PROCESSED: topology.ORDER_QUEUE, INVOICE_GENERATED: topology.INVOICE_QUEUE}
PREFIXES = ("ce-", "cloudEvents:", "cloudEvents_")
EXAMPLES = {
    event_type: json.loads((ROOT / f"examples/{event_type.replace('.', '-')}.json").read_text("utf-8"))
    for event_type in DATA
}

_NUMBER = "What the customer calls it; without it, the id."
_TOTAL = "Decimal number with a point, as text: never a JSON number."
_CURRENCY = "ISO 4217 code."
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
        "id": "The customer's id in the shop.",
        "name": "How to address the customer.",
        "email": "Judged when a mail is sent: a bad address suppresses that mail, and refuses no order.",
        "phone": "Judged when an SMS is sent, like the address. Best in E.164.",
        "locale": "Language tag such as de-AT.",
        "country": "ISO 3166 code: how to read a phone number that has no country code.",
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
    Attributes: {
        "specversion": "CloudEvents' version.",
        "id": "With `source` the identity: the same again with the same data is a duplicate.",
        "source": "Who publishes.",
        "time": "When it happened; latencies are measured from it.",
        "datacontenttype": "The data's content type.",
        "dataschema": "The data's schema, if it is to be checked.",
    },
}

_PREFIXED = f"^({'|'.join(PREFIXES)})"
_KEYS = ("order_id", "invoice_id")
_KEY = "^[!-~]+$"
_TIME = (
    "^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]"
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]+$"


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
    if "anyOf" in field:
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


# --- AsyncAPI -------------------------------------------------------------------------------------


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:postorder:intake",
        "info": {
            "title": "Postorder",
            "version": "1.0.0",
            "description": "The events Postorder takes. In full: [events](events.md). "
            "Made by scripts/render_contract.py; do not edit.",
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": STRUCTURED_TYPE,
        "servers": {"broker": _server()},
        "channels": {**_channels(), **_queues()},
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "schemas": _schemas(),
            "securitySchemes": {"password": {"type": "userPassword"}},
        },
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{host}:{port}",
        "pathname": "/{vhost}",
        "protocol": "amqp",
        "protocolVersion": "0-9-1",
        "description": "RabbitMQ; `amqp.url` of the settings.",
        "variables": {
            "host": {"default": "localhost"},
            "port": {"default": "5672", "description": "5671 with TLS."},
            "vhost": {"default": "%2F"},
        },
        "security": [{"$ref": "#/components/securitySchemes/password"}],
    }


def _message_names(event_type: str) -> list[str]:
    name = NAMES[event_type]
    return [name, f"{name}Binary", f"{name}Plain", "eventBatch"]


def _channels() -> dict[str, Any]:
    """Return what is published to: a routing key of the exchange each."""
    exchange = {"name": topology.EXCHANGE, "type": "topic", "durable": True, "autoDelete": False}
    return {
        NAMES[event_type]: {
            "address": event_type,
            "description": f"Routing key of the exchange `{topology.EXCHANGE}`, alone or with more words "
            f"after it, as in `{event_type}.eu`. Bound to the queue `{QUEUES[event_type]}`.",
            "messages": _component_messages(_message_names(event_type)),
            "bindings": _amqp({"is": "routingKey", "exchange": exchange}),
            "x-alternate-exchange": topology.UNROUTABLE,
        }
        for event_type in DATA
    }


def _queues() -> dict[str, Any]:
    """Return the queues: the two that are meant, and the two for what went astray."""
    shared = {
        "x-queue-type": "quorum",
        "x-max-length": topology.QUEUE_MESSAGES_MAX,
        "x-overflow": "reject-publish",
    }
    work = {
        **shared,
        "x-dead-letter-exchange": topology.DEAD,
        "x-dead-letter-strategy": "at-least-once",
        "x-delivery-limit": topology.DELIVERY_LIMIT,
    }
    everything = [name for event_type in DATA for name in _message_names(event_type)[:-1]] + ["eventBatch"]
    rows: list[tuple[str, str, list[str], dict[str, Any], dict[str, str]]] = [
        *(
            (f"{NAMES[event_type]}Queue", QUEUES[event_type], _message_names(event_type), work,
             {"exchange": topology.EXCHANGE, "routingKey": topology.WORK_QUEUES[QUEUES[event_type]]})
            for event_type in DATA
        ),
        ("unroutable", topology.UNROUTABLE_QUEUE, everything, shared, {"exchange": topology.UNROUTABLE}),
        ("deadLetters", topology.DEAD_QUEUE, everything, shared, {"exchange": topology.DEAD}),
    ]  # fmt: skip
    return {
        name: {
            "address": queue,
            "messages": _component_messages(messages),
            "bindings": _amqp(
                {
                    "is": "queue",
                    "queue": {"name": queue, "durable": True, "exclusive": False, "autoDelete": False},
                }
            ),
            "x-arguments": arguments,
            "x-bound-to": bound_to,
        }
        for name, queue, messages, arguments, bound_to in rows
    }


def _operations() -> dict[str, Any]:
    received = {
        **{NAMES[event_type]: f"Take in `{event_type}`." for event_type in DATA},
        "unroutable": "Take in what no queue wanted: a valid event is stored, the rest quarantined.",
        "deadLetters": "Take in what came too often: a valid event is stored, the rest quarantined.",
    }
    channels = {**_channels(), **_queues()}
    return {
        f"receive{channel[0].upper()}{channel[1:]}": {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": summary,
            "messages": [
                {"$ref": f"#/channels/{channel}/messages/{name}"} for name in channels[channel]["messages"]
            ],
            "bindings": _amqp({"ack": True}),
        }
        for channel, summary in received.items()
    }


def _messages() -> dict[str, Any]:
    messages: dict[str, Any] = {}
    for event_type in DATA:
        structured, binary, plain, batch = _message_names(event_type)
        messages[structured] = _structured(event_type)
        messages[binary] = _binary(event_type)
        messages[plain] = _plain(event_type)
    messages[batch] = {
        "title": "several events, batch mode",
        "summary": "Events of either type. One that is no good does not spoil its neighbours.",
        "contentType": BATCH_TYPE,
        "payload": _ref("EventBatch"),
        "examples": [{"name": "both", "payload": list(EXAMPLES.values())}],
    }
    return messages


def _structured(event_type: str) -> dict[str, Any]:
    event = EXAMPLES[event_type]
    encoded = {name: value for name, value in event.items() if name != "data"}
    encoded["data_base64"] = b64encode(json.dumps(event["data"], separators=(",", ":")).encode()).decode()
    return {
        "name": event_type,
        "title": f"{event_type}, structured mode",
        "summary": f"Also taken as {JSON_TYPE}, and without a content type.",
        "contentType": STRUCTURED_TYPE,
        "correlationId": {"location": "$message.payload#/id"},
        "payload": _ref(f"{DATA[event_type].__name__}Event"),
        "examples": [{"name": "json", "payload": event}, {"name": "base64", "payload": encoded}],
    }


def _binary(event_type: str) -> dict[str, Any]:
    event = dict(EXAMPLES[event_type])
    data = event.pop("data")
    headers = {PREFIXES[0] + name: value for name, value in event.items()}
    return {
        "name": event_type,
        "title": f"{event_type}, binary mode",
        "summary": f"Attributes in headers beginning with {', '.join(PREFIXES)}; the body is the data.",
        "contentType": JSON_TYPE,
        "correlationId": {"location": f"$message.header#/{PREFIXES[0]}id"},
        "headers": _ref(f"{DATA[event_type].__name__}Headers"),
        "payload": _ref(DATA[event_type].__name__),
        "examples": [{"name": "binary", "headers": headers, "payload": data}],
    }


def _plain(event_type: str) -> dict[str, Any]:
    event = EXAMPLES[event_type]
    return {
        "name": event_type,
        "title": f"{event_type}, plain JSON",
        "summary": "No CloudEvents: the type is the routing key's, the identity a header's or the data's.",
        "contentType": JSON_TYPE,
        "correlationId": {"location": f"$message.header#/{IDENTITY_HEADER}"},
        "headers": _ref("PlainHeaders"),
        "payload": _ref(DATA[event_type].__name__),
        "examples": [{"name": "plain", "headers": {IDENTITY_HEADER: event["id"]}, "payload": event["data"]}],
    }


def _schemas() -> dict[str, Any]:
    found = components([*DATA.values()], "#/components/schemas/{name}")
    for event_type, kind in DATA.items():
        attributes = _attributes(event_type)
        found[f"{kind.__name__}Event"] = _event_schema(event_type, attributes)
        found[f"{kind.__name__}Headers"] = _headers_schema(attributes)
    found["EventBatch"] = {
        "description": "At most intake.message_events_max events; here its default.",
        "type": "array",
        "items": {"oneOf": [_ref(f"{kind.__name__}Event") for kind in DATA.values()]},
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
            "data": _ref(DATA[event_type].__name__),
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


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _component_messages(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _amqp(binding: dict[str, Any]) -> dict[str, Any]:
    return {"amqp": {**binding, "bindingVersion": "0.3.0"}}


# --- files ----------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Writes what is there twice out twice: an anchor helps no reader."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never refer back."""
        del data
        return True


def render() -> dict[Path, str]:
    """Return every file with its text."""
    files = {
        REFERENCE / f"schemas/{event_type}.schema.json": json.dumps(data_schema(event_type), indent=2) + "\n"
        for event_type in DATA
    }
    files[ASYNCAPI] = yaml.dump(asyncapi(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return files


def main() -> int:
    """Write the files, or with --check compare them."""
    status = 0
    for path, text in render().items():
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path.name} is out of date: run `make docs`")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
