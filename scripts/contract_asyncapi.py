"""The AsyncAPI document: what is published where, and what is read from which queue."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from contract_envelopes import PREFIXES, component_schemas, ref
from contract_schemas import DATA

from consumers import topology
from pipeline.events import CUSTOMER_UPDATED, INVOICE_GENERATED, ORDER_PROCESSED
from pipeline.ingest.content_mode import BATCH_TYPE, JSON_TYPE, STRUCTURED_TYPE
from pipeline.ingest.decoder import IDENTITY_HEADER

NAMES = {
    ORDER_PROCESSED: "orderProcessed",
    INVOICE_GENERATED: "invoiceGenerated",
    CUSTOMER_UPDATED: "customerUpdated",
}
QUEUES = {
    ORDER_PROCESSED: topology.ORDER_QUEUE,
    INVOICE_GENERATED: topology.INVOICE_QUEUE,
    CUSTOMER_UPDATED: topology.CUSTOMER_QUEUE,
}
_FILES = Path(__file__).parents[1] / "examples"
EXAMPLES = {
    event_type: json.loads((_FILES / f"{event_type.replace('.', '-')}.json").read_text("utf-8"))
    for event_type in DATA
}


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
            "schemas": component_schemas(),
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
            f"after it, as in `{event_type}.eu`. Bound to the queue `{QUEUES[event_type]}`. "
            f"Alone it may go to the exchange `{topology.DIRECT_EXCHANGE}` as well, for less of the broker's "
            "work.",
            "messages": _component_messages(_message_names(event_type)),
            "bindings": _amqp({"is": "routingKey", "exchange": exchange}),
            "x-alternate-exchange": topology.UNROUTABLE,
        }
        for event_type in DATA
    }


def _queues() -> dict[str, Any]:
    """Return the queues: one for each type, and the two for what went astray."""
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
    astray = {**shared, "x-delivery-limit": topology.DELIVERY_LIMIT_MAX}
    everything = [name for event_type in DATA for name in _message_names(event_type)[:-1]] + ["eventBatch"]
    rows: list[tuple[str, str, list[str], dict[str, Any], dict[str, str]]] = [
        *(
            (f"{NAMES[event_type]}Queue", QUEUES[event_type], _message_names(event_type), work,
             {"exchange": topology.EXCHANGE, "routingKey": topology.WORK_QUEUES[QUEUES[event_type]]})
            for event_type in DATA
        ),
        ("unroutable", topology.UNROUTABLE_QUEUE, everything, astray, {"exchange": topology.UNROUTABLE}),
        ("deadLetters", topology.DEAD_QUEUE, everything, astray, {"exchange": topology.DEAD}),
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
        "summary": "Events of any type. One that is no good does not spoil its neighbours.",
        "contentType": BATCH_TYPE,
        "payload": ref("EventBatch"),
        "examples": [{"name": "all", "payload": list(EXAMPLES.values())}],
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
        "payload": ref(f"{DATA[event_type].__name__}Event"),
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
        "headers": ref(f"{DATA[event_type].__name__}Headers"),
        "payload": ref(DATA[event_type].__name__),
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
        "headers": ref("PlainHeaders"),
        "payload": ref(DATA[event_type].__name__),
        "examples": [{"name": "plain", "headers": {IDENTITY_HEADER: event["id"]}, "payload": event["data"]}],
    }


def _component_messages(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _amqp(binding: dict[str, Any]) -> dict[str, Any]:
    return {"amqp": {**binding, "bindingVersion": "0.3.0"}}
